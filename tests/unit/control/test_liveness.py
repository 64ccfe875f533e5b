from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.clock import FakeClock
from nova.control.backoff import Backoff
from nova.control.liveness import ClockOffset, Liveness, Pulse, pause
from nova.wire.messages import Heartbeat

_delay = st.integers(0, 10**10)


def test_silence_is_death_and_any_traffic_is_life() -> None:
    clock = FakeClock()
    live = Liveness(2.0, clock())
    for _ in range(30):
        clock.advance(0.25)
        live.heard(clock())
        assert not live.dead(clock())
    for _ in range(7):
        clock.advance(0.25)
        assert not live.dead(clock())
    clock.advance(0.25)
    assert live.dead(clock())


def test_whoever_slept_reads_its_queue_before_it_judges() -> None:
    clock = FakeClock()
    live = Liveness(2.0, clock())
    clock.advance(3600)
    assert not live.dead(clock())
    live.heard(clock())
    clock.advance(0.5)
    assert not live.dead(clock())


@given(
    dead_after=st.floats(0.1, 100),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0.001, 1.0)), max_size=60),
)
def test_death_comes_after_the_silence_and_no_later_than_one_check_more(
    dead_after: float, steps: list[tuple[bool, float]]
) -> None:
    now, heard, last_check = 0.0, 0.0, 0.0
    live = Liveness(dead_after, now)
    for hears, part in steps:
        last_check, now = now, now + part * dead_after / 4
        if hears:
            live.heard(now)
            heard = now
        dead = live.dead(now)
        tiny = 1e-9 * dead_after
        if dead:
            assert now - heard >= dead_after - tiny
            break
        assert now - heard <= dead_after + tiny or last_check - heard < dead_after


@given(truth=st.integers(-(10**15), 10**15), legs=st.lists(st.tuples(_delay, _delay, _delay), min_size=1, max_size=40))
def test_the_offset_is_right_within_half_a_round_trip(truth: int, legs: list[tuple[int, int, int]]) -> None:
    ours = 10**16
    clock = ClockOffset(window=8)
    for out, held, back in legs:
        sent, arrived = ours, ours + out + truth
        answered = arrived + held
        ours = answered - truth + back
        assert clock.sample(answered, sent, held, ours)
    rtt, offset = clock.rtt_ns, clock.offset_ns
    assert rtt == min(out + back for out, _, back in legs[-8:])
    assert offset is not None
    assert abs(offset - truth) <= (rtt + 1) // 2


@given(sent=st.integers(), echo=st.integers(), held=st.integers(), now=st.integers(0))
def test_a_heartbeat_that_cannot_be_true_measures_nothing(sent: int, echo: int, held: int, now: int) -> None:
    clock = ClockOffset()
    taken = clock.sample(sent, echo, held, now)
    assert taken == (0 < echo <= now - held and held >= 0)
    assert (clock.rtt_ns is None) == (not taken)


def test_two_pulses_measure_each_other_with_clocks_apart() -> None:
    clock, apart, way = FakeClock(1000.0), 500.0, 0.010
    here, there = Pulse(0.5, 2.0, clock()), Pulse(0.5, 2.0, clock() + apart)
    for _ in range(3):
        beat = here.due(clock())
        assert beat is not None
        clock.advance(way)
        there.heartbeat(beat, clock() + apart)
        clock.advance(0.1)
        answer = there.due(clock() + apart)
        assert answer is not None
        clock.advance(way)
        here.heartbeat(answer, clock())
        clock.advance(0.5)
    assert here.clock.rtt_ns is not None
    assert here.clock.offset_ns is not None
    assert abs(here.clock.rtt_ns - 2 * way * 1e9) < 1000
    assert abs(here.clock.offset_ns - apart * 1e9) < 1000


def test_a_late_caller_sends_one_heartbeat_not_all_it_missed() -> None:
    pulse = Pulse(0.5, 2.0, 0.0)
    assert isinstance(pulse.due(100.0), Heartbeat)
    assert pulse.due(100.4) is None
    assert pulse.due(100.5) is not None


def test_the_tick_is_short_enough_for_both_duties() -> None:
    assert pause(0.5, 2.0) <= 0.25
    assert pause(5.0, 2.0) <= 2.0 / 4


@given(st.floats(0.01, 1), st.floats(1, 60), st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_pauses_are_spread_over_a_ceiling_that_doubles(first: float, longest: float, draws: list[float]) -> None:
    backoff = Backoff(first, longest, iter(draws).__next__)
    for attempt, draw in enumerate(draws):
        ceiling = min(first * 2**attempt, longest)
        assert abs(backoff.next() - draw * ceiling) <= 1e-9 * ceiling


def test_two_hundred_workers_do_not_come_back_together() -> None:
    pauses = sorted(Backoff(0.2, 5.0).next() for _ in range(200))
    assert sum(pause < 0.1 for pause in pauses) in range(50, 151)
    assert max(sum(at <= p < at + 0.01 for p in pauses) for at in pauses) < 50


def test_success_begins_the_pauses_anew() -> None:
    backoff = Backoff(0.2, 5.0, lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    backoff.reset()
    assert backoff.next() == 0.2
