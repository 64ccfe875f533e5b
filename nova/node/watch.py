"""Whether an engine is to be killed: a pure judge, fed with what its daemon sees and a clock reading.

Whoever can be stuck is watched by somebody who is not. Each phase of an engine has its own limit, and from its
first message on it must also send heartbeats; silence is a hang, whatever the phase, and so is a chunk without end.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nova.config.schema import Engine
from nova.wire import phases
from nova.wire.values import EngineSpec

GRACE_S = 0.3
"""The engine's own deadline should speak first: it knows more."""


@dataclass(frozen=True)
class Kill:
    """End the process; `reason` is what the user will read, `suspect` whether the transport may be to blame."""

    reason: str
    suspect: bool = False


@dataclass(frozen=True)
class Ask:
    """Send SIGTERM: it was told to stop and has not."""

    reason: str


@dataclass
class EngineWatch:
    """One engine's clock. `now` is monotonic seconds everywhere."""

    limits: Engine
    spec: EngineSpec
    started: float
    phase: str = phases.BOOT
    phase_since: float = field(init=False)
    heard: float | None = None
    busy_since: float | None = None
    transfer_since: float | None = None
    stop_asked: float | None = None
    failed: float | None = None
    terminated: bool = False

    def __post_init__(self) -> None:
        self.phase_since = self.started

    def on_message(self, now: float, busy_s: float = 0.0, transfer_s: float = 0.0) -> None:
        """Anything came; a heartbeat says how long one chunk has been computed, and one transfer has lasted."""
        self.heard = now
        self.busy_since = now - busy_s if busy_s else None
        self.transfer_since = now - transfer_s if transfer_s else None

    def on_phase(self, phase: str, now: float) -> None:
        if phase == phases.FAILED:  # no phase to be in: which one failed is what matters
            self.failed = now if self.failed is None else self.failed
        elif phase != self.phase:
            # Joining and verifying share one limit, which began with the first of them.
            if not (phase == phases.VERIFY and self.phase == phases.JOIN):
                self.phase_since = now
            self.phase = phase

    def on_stop(self, now: float) -> None:
        if self.stop_asked is None:
            self.stop_asked = now

    def due(self) -> float:
        """The next moment at which `judge` could have something to say."""
        return min(at for at, _ in self._deadlines())

    def judge(self, now: float) -> Kill | Ask | None:
        """What to do at `now`; the earliest deadline that has passed speaks."""
        passed = [(at, verdict) for at, verdict in self._deadlines() if now >= at]
        if not passed:
            return None
        verdict = min(passed, key=lambda pair: pair[0])[1]
        if isinstance(verdict, Ask):
            self.terminated = True
        return verdict

    def _deadlines(self) -> list[tuple[float, Kill | Ask]]:
        limits, found = self.limits, list[tuple[float, Kill | Ask]]()
        if self.stop_asked is not None:
            asked = f"did not stop within {limits.stop_s:g} s"
            if not self.terminated:
                found.append((self.stop_asked + limits.stop_s, Ask(asked)))
            found.append((self.stop_asked + 2 * limits.stop_s, Kill(asked + ", nor at SIGTERM")))
            return found
        if self.failed is not None:
            # It has said why it ends, and cleans up; a transport may be stuck in that too.
            found.append((self.failed + limits.stop_s, Kill(f"did not end within {limits.stop_s:g} s of its failure")))
        if self.heard is None:
            found.append((self.started + limits.start_s, Kill(f"no message within {limits.start_s:g} s of its start")))
        else:
            silent = f"silent for {limits.silent_s:g} s in phase {self.phase}"
            found.append((self.heard + limits.silent_s, Kill(silent, suspect=True)))
        if self.busy_since is not None:
            # The heartbeat comes from another thread than the arithmetic, so it alone would not show this.
            stuck = f"computed one chunk for more than {limits.step_s:g} s"
            found.append((self.busy_since + limits.step_s, Kill(stuck)))
        if self.transfer_since is not None:
            # Beyond its own deadline: not every transport can keep one.
            stuck = f"one transfer over {self.spec.transport} took longer than {self.spec.transfer_s:g} s"
            found.append((self.transfer_since + self.spec.transfer_s + GRACE_S, Kill(stuck, suspect=True)))
        limit = {
            phases.BOOT: limits.start_s,
            phases.OPEN: self.spec.open_s,
            phases.MEET: self.spec.start_s,
            phases.JOIN: self.spec.join_s,
            phases.VERIFY: self.spec.join_s,
            phases.LOAD: self.spec.load_s,
        }.get(self.phase)
        if limit is not None:
            over = f"phase {self.phase} took longer than {limit:g} s"
            found.append((self.phase_since + limit + GRACE_S, Kill(over)))
        return found
