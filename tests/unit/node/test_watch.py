"""The judge of engines on a fake clock: each phase's limit, silence, and the way from a request to SIGKILL."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.clock import FakeClock
from nova.config.schema import Engine
from nova.node.watch import GRACE_S, Ask, EngineWatch, Kill
from nova.wire import phases
from nova.wire.values import EngineSpec

LIMITS = Engine(start_s=60.0, stop_s=3.0, silent_s=10.0)
SPEC = EngineSpec("m", 0, 1, 1, 2, "tcp", {}, b"", 40.0, 15.0, 20.0, 100.0, 5.0, 4, 1024)


class Watched:
    """A watch on a fake clock that starts at 0, whose engine sends a heartbeat whenever it is told to live."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.watch = EngineWatch(LIMITS, SPEC, 0.0)

    def live(self, seconds: float) -> Kill | Ask | None:
        """Heartbeats each second for so long; the first verdict, if any."""
        until = self.clock() + seconds
        while self.clock() < until:
            self.clock.advance(min(1.0, until - self.clock()))
            self.watch.on_message(self.clock())
            if (verdict := self.watch.judge(self.clock())) is not None:
                return verdict
        return None

    def enter(self, phase: str) -> None:
        self.watch.on_message(self.clock())
        self.watch.on_phase(phase, self.clock())


def test_a_process_that_never_says_a_word_is_killed_after_start_s() -> None:
    watch = EngineWatch(LIMITS, SPEC, 0.0)
    assert watch.due() == 60.0
    assert watch.judge(59.9) is None
    assert watch.judge(60.0) == Kill("no message within 60 s of its start")


def test_heartbeats_alone_do_not_keep_a_process_that_does_not_start() -> None:
    engine = Watched()
    assert engine.live(60.0) is None
    assert engine.live(2.0) == Kill("phase boot took longer than 60 s")


def test_silence_kills_in_every_phase() -> None:
    for phase in phases.ORDER:
        engine = Watched()
        engine.clock.advance(1.0)
        engine.enter(phase)
        assert engine.watch.judge(10.9) is None
        assert engine.watch.judge(11.0) == Kill(f"silent for 10 s in phase {phase}", suspect=True)


def test_waiting_for_the_others_to_start_has_a_limit_of_its_own() -> None:
    engine = Watched()
    engine.enter(phases.MEET)
    assert engine.live(40.0) is None
    assert engine.live(2.0) == Kill("phase meet took longer than 40 s")


def test_joining_and_verifying_have_one_limit() -> None:
    engine = Watched()
    engine.enter(phases.OPEN)
    engine.live(15.0)
    for phase in (phases.JOIN, phases.VERIFY):
        engine.enter(phase)
        assert engine.live(10.0) is None
    assert engine.live(2.0) == Kill("phase verify took longer than 20 s")
    assert 0.0 <= engine.clock() - (15.0 + 20.0 + GRACE_S) < 1.0, "as soon as a heartbeat can show it"


def test_a_chunk_without_end_is_a_hang_although_the_heartbeat_goes_on() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    for second in range(1, 400):
        engine.clock.advance(1.0)
        engine.watch.on_message(engine.clock(), busy_s=float(second))
        if (verdict := engine.watch.judge(engine.clock())) is not None:
            break
    assert verdict == Kill("computed one chunk for more than 300 s")
    assert second == 300


def test_chunk_after_chunk_is_no_hang() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    for second in range(1000):
        engine.clock.advance(1.0)
        engine.watch.on_message(engine.clock(), busy_s=float(second % 200))
        assert engine.watch.judge(engine.clock()) is None


def test_a_transfer_that_ignores_its_deadline_is_ended_and_names_its_transport() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    for second in range(1, 20):
        engine.clock.advance(1.0)
        engine.watch.on_message(engine.clock(), transfer_s=float(second))
        if (verdict := engine.watch.judge(engine.clock())) is not None:
            break
    assert verdict == Kill("one transfer over tcp took longer than 5 s", suspect=True)
    assert 0.0 <= second - (SPEC.transfer_s + GRACE_S) < 1.0


def test_a_transfer_is_judged_between_two_heartbeats_too() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    engine.watch.on_message(0.0, transfer_s=2.0)
    assert engine.watch.due() == SPEC.transfer_s + GRACE_S - 2.0
    assert engine.watch.judge(engine.watch.due() - 0.1) is None
    assert isinstance(engine.watch.judge(engine.watch.due()), Kill)


def test_transfer_after_transfer_is_no_hang() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    for second in range(100):
        engine.clock.advance(1.0)
        engine.watch.on_message(engine.clock(), transfer_s=float(second % 5))
        assert engine.watch.judge(engine.clock()) is None


def test_an_engine_that_said_that_it_failed_must_end_although_its_heartbeat_goes_on() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    assert engine.live(100.0) is None
    engine.enter(phases.FAILED)
    assert engine.live(2.0) is None
    engine.enter(phases.FAILED)  # saying it again gives no more time
    assert engine.live(2.0) == Kill("did not end within 3 s of its failure")


def test_loading_has_its_own_limit_whatever_forming_took() -> None:
    engine = Watched()
    engine.enter(phases.OPEN)
    engine.live(15.0)
    engine.enter(phases.LOAD)
    assert engine.live(80.0) is None
    engine.enter(phases.LOAD)  # progress is not a new phase
    assert engine.live(20.0) is None
    assert engine.live(2.0) == Kill("phase load took longer than 100 s")


def test_a_ready_engine_may_live_for_ever() -> None:
    engine = Watched()
    engine.enter(phases.READY)
    assert engine.live(2000.0) is None


def test_failed_is_no_phase_to_be_in() -> None:
    engine = Watched()
    engine.enter(phases.JOIN)
    engine.enter(phases.FAILED)
    assert engine.watch.phase == phases.JOIN


def test_stop_goes_to_sigterm_and_then_to_sigkill() -> None:
    watch = EngineWatch(LIMITS, SPEC, 0.0)
    watch.on_stop(0.0)
    watch.on_stop(2.0)  # asking again gives no more time
    assert watch.judge(2.9) is None
    assert watch.judge(3.0) == Ask("did not stop within 3 s")
    assert watch.judge(3.1) is None
    assert watch.due() == 6.0
    assert watch.judge(6.0) == Kill("did not stop within 3 s, nor at SIGTERM")


def test_a_daemon_that_slept_through_both_asks_before_it_kills() -> None:
    watch = EngineWatch(LIMITS, SPEC, 0.0)
    watch.on_stop(0.0)
    assert isinstance(watch.judge(100.0), Ask)
    assert isinstance(watch.judge(100.0), Kill)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([*phases.ORDER, phases.FAILED, "message", "stop", "judge"]),
        st.floats(0, 15, allow_nan=False),
    ),
    max_size=12,
)


@given(EVENTS, st.floats(0, 200))
def test_due_is_never_later_than_the_verdict_and_never_early_for_nothing(
    events: list[tuple[str, float]], later: float
) -> None:
    watch, now = EngineWatch(LIMITS, SPEC, 0.0), 0.0
    for event, pause in events:
        now += pause
        if event == "stop":
            watch.on_stop(now)
        elif event == "judge":
            watch.judge(now)
        else:
            watch.on_message(now)
            if event != "message":
                watch.on_phase(event, now)
    due, at = watch.due(), now + later
    assert (watch.judge(at) is not None) is (at >= due)
