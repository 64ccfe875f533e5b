"""Who is alive, and how far apart two clocks are. Sans-I/O: fed with messages and a clock reading in seconds."""

from __future__ import annotations

from collections import deque

from nova.wire.messages import Heartbeat

NANO = 1_000_000_000


class Liveness:
    """Counts a peer's silence: any traffic is life, `dead_after_s` of silence is death.

    Silence counts only as far as somebody watched: one check adds at most half of `dead_after_s`. Whoever was
    stopped for a minute (a lid closed, a debugger) finds its peers' heartbeats in the queue before it judges them.
    """

    def __init__(self, dead_after_s: float, now: float) -> None:
        self._dead_after = dead_after_s
        self._checked = now
        self._silence = 0.0
        self.last_heard = now

    def heard(self, now: float) -> None:
        self.last_heard = self._checked = max(now, self._checked)
        self._silence = 0.0

    def dead(self, now: float) -> bool:
        """To be asked at least four times within `dead_after_s`."""
        self._silence += min(max(0.0, now - self._checked), self._dead_after / 2)
        self._checked = max(now, self._checked)
        return self._silence >= self._dead_after


class ClockOffset:
    """Round trip and offset of the peer's monotonic clock, in the manner of NTP.

    We sent at t1 (our clock), the peer had it at t2 and answered at t3 (its clock), we had that at t4 (ours).
    The truth lies within half a round trip of the estimate, whatever the two ways cost, so that the sample with
    the least round trip is the best; the window slides because clocks drift.
    """

    def __init__(self, window: int = 32) -> None:
        self._samples: deque[tuple[int, int]] = deque(maxlen=window)

    def sample(self, sent_ns: int, echo_ns: int, held_ns: int, now_ns: int) -> bool:
        """Takes a heartbeat that arrived at `now_ns` (our clock); False if it measures nothing or cannot be true."""
        rtt = now_ns - echo_ns - held_ns
        if echo_ns <= 0 or held_ns < 0 or rtt < 0:
            return False
        self._samples.append((rtt, sent_ns - now_ns + rtt // 2))
        return True

    @property
    def rtt_ns(self) -> int | None:
        """Least round trip of the window; None before the first sample."""
        return min(self._samples)[0] if self._samples else None

    @property
    def offset_ns(self) -> int | None:
        """What to add to our clock to read the peer's, right within half of `rtt_ns`; None before the first sample."""
        return min(self._samples)[1] if self._samples else None


class Pulse:
    """One side of a session's heartbeats: when ours is due, what it says, and whether theirs still come."""

    def __init__(self, heartbeat_s: float, dead_after_s: float, now: float) -> None:
        self._heartbeat = heartbeat_s
        self._due = now
        self._echo: tuple[int, float] | None = None
        self.liveness = Liveness(dead_after_s, now)
        self.clock = ClockOffset()

    def heartbeat(self, beat: Heartbeat, now: float) -> None:
        """A heartbeat came in."""
        self.clock.sample(beat.sent_ns, beat.echo_ns, beat.held_ns, nanoseconds(now))
        self._echo = (beat.sent_ns, now)

    def due(self, now: float) -> Heartbeat | None:
        """Ours, if it is time for one. A late caller gets one, not all that were missed."""
        if now < self._due:
            return None
        self._due = now + self._heartbeat
        sent = nanoseconds(now)
        if self._echo is None:
            return Heartbeat(sent)
        echo, arrived = self._echo
        return Heartbeat(sent, echo, sent - nanoseconds(arrived))


def nanoseconds(now: float) -> int:
    return int(now * NANO)


def pause(heartbeat_s: float, dead_after_s: float) -> float:
    """How long a rim may sleep between two ticks so that heartbeats go out and silence is judged in time."""
    return min(heartbeat_s / 2, dead_after_s / 8)
