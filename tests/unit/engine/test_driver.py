"""The driver and the schedule: every token goes round once, in order, never more chunks than the window at a time."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from nova.engine.driver import Driver, Plan
from nova.engine.schedule import Schedule
from nova.wire.messages import Begin
from nova.wire.tensor import Flags
from nova.wire.values import EngineKey
from nova.wire.work import Sampling

PROMPTS = st.lists(st.integers(0, 999), min_size=1, max_size=40)


def driver(prompt: list[int], chunk: int = 4, max_tokens: int = 8, stop: list[int] | None = None) -> Driver:
    return Driver(Begin(EngineKey("main", 1, 1), 1, prompt, max_tokens, stop or [], Sampling()), chunk)


def rounds(drivers: list[Driver], answers: list[list[int]], limit: int) -> list[tuple[int, Plan]]:
    """All chunks of these requests, when every decode step gives the next of its request's `answers`."""
    schedule = Schedule(limit)
    for stream, one in enumerate(drivers):
        schedule.add(stream, one)
    sampled = [iter(each) for each in answers]
    sent: list[tuple[int, Plan]] = []
    under_way: deque[tuple[int, Plan]] = deque()
    while True:
        while (turn := schedule.next()) is not None:
            sent.append(turn)
            under_way.append(turn)
            assert len(under_way) <= limit
        if not under_way:
            return sent
        stream, plan = under_way.popleft()
        schedule.landed()
        if not plan.flags & Flags.PREFILL:
            drivers[stream].sampled(next(sampled[stream]))


def chunks(one: Driver, answers: list[int], limit: int) -> list[Plan]:
    return [plan for _, plan in rounds([one], [answers], limit)]


@given(st.lists(PROMPTS, min_size=2, max_size=4), st.integers(1, 9), st.integers(1, 5))
def test_requests_take_turns_and_each_has_its_own_text(prompts: list[list[int]], chunk: int, limit: int) -> None:
    drivers = [driver(prompt, chunk, 3) for prompt in prompts]
    sent = rounds(drivers, [[1000, 1001, 1002] for _ in prompts], limit)
    for stream, prompt in enumerate(prompts):
        assert [token for whose, plan in sent if whose == stream for token in plan.tokens] == [*prompt, 1000, 1001]
    first = [next(index for index, (whose, _) in enumerate(sent) if whose == stream) for stream in range(len(prompts))]
    assert first == list(range(len(prompts))), "nobody waits for another's whole prompt"


def test_a_removed_request_is_not_asked_and_what_it_has_under_way_still_counts() -> None:
    schedule = Schedule(1)
    schedule.add(1, driver([1, 2, 3], 1))
    schedule.add(2, driver([5]))
    assert schedule.next() is not None
    schedule.remove(1)
    assert schedule.next() is None
    schedule.landed()
    turn = schedule.next()
    assert turn is not None
    assert turn[0] == 2


@given(PROMPTS, st.integers(1, 45), st.integers(1, 5), st.integers(1, 9))
def test_the_chunks_are_the_text_once_and_in_order(prompt: list[int], chunk: int, window: int, limit: int) -> None:
    answers = list(range(1000, 1000 + limit))
    one = driver(prompt, chunk, limit)
    sent = chunks(one, answers, window)
    assert [token for plan in sent for token in plan.tokens] == prompt + answers[:-1]
    assert [plan.position for plan in sent] == [sum(len(each.tokens) for each in sent[:n]) for n in range(len(sent))]
    prefill = [plan for plan in sent if plan.flags & Flags.PREFILL]
    assert [token for plan in prefill for token in plan.tokens] == prompt[:-1]
    assert all(1 <= len(plan.tokens) <= chunk for plan in prefill)
    assert all(len(plan.tokens) == chunk for plan in prefill[:-1])
    decode = sent[len(prefill) :]
    assert all(len(plan.tokens) == 1 and not plan.flags & Flags.PREFILL for plan in decode)
    assert len(decode) == limit
    assert (one.finish, one.generated) == ("length", limit)


@given(PROMPTS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 5))
def test_a_stop_token_ends_it_and_counts(prompt: list[int], chunk: int, window: int, before: int) -> None:
    one = driver(prompt, chunk, 50, [7, 9])
    chunks(one, [*range(1000, 1000 + before), 9], window)
    assert (one.finish, one.generated) == ("stop", before + 1)


def test_a_stop_token_in_the_last_place_is_a_stop_and_not_the_limit() -> None:
    one = driver([1], max_tokens=1, stop=[9])
    chunks(one, [9], 3)
    assert one.finish == "stop"


@given(PROMPTS, st.integers(1, 9), st.integers(0, 12), st.integers(0, 9))
def test_after_a_cancel_nothing_is_sent_and_what_comes_back_is_ignored(
    prompt: list[int], chunk: int, steps: int, token: int
) -> None:
    one = driver(prompt, chunk, 100, [9])
    for _ in range(steps):
        plan = one.next()
        if plan is not None and not plan.flags & Flags.PREFILL:
            one.sampled(1)
    generated = one.generated
    one.cancel()
    assert one.next() is None
    one.sampled(token)
    assert one.next() is None
    assert (one.finish, one.generated) == ("cancelled", generated)


def test_a_cancel_after_the_end_does_not_change_the_end() -> None:
    one = driver([1], max_tokens=1)
    chunks(one, [5], 3)
    one.cancel()
    assert one.finish == "length"
