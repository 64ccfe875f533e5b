"""The driver: every token of the prompt goes round once, in order, never more than the window at a time."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from nova.engine.driver import Driver, Plan
from nova.wire.messages import Begin, EngineKey, Sampling
from nova.wire.tensor import Flags

PROMPTS = st.lists(st.integers(0, 999), min_size=1, max_size=40)


def driver(
    prompt: list[int], chunk: int = 4, window: int = 3, max_tokens: int = 8, stop: list[int] | None = None
) -> Driver:
    return Driver(Begin(EngineKey("main", 1, 1), 1, prompt, max_tokens, stop or [], Sampling()), chunk, window)


def chunks(one: Driver, answers: list[int], window: int) -> list[Plan]:
    """All chunks of one request, when every decode step gives the next of `answers`."""
    sent: list[Plan] = []
    under_way: deque[Plan] = deque()
    sampled = iter(answers)
    while True:
        while (plan := one.next()) is not None:
            sent.append(plan)
            under_way.append(plan)
            assert len(under_way) <= window
        if not under_way:
            return sent
        back = under_way.popleft()
        if back.flags & Flags.PREFILL:
            one.prefilled()
        else:
            one.sampled(next(sampled))


@given(PROMPTS, st.integers(1, 45), st.integers(1, 5), st.integers(1, 9))
def test_the_chunks_are_the_text_once_and_in_order(prompt: list[int], chunk: int, window: int, limit: int) -> None:
    answers = list(range(1000, 1000 + limit))
    one = driver(prompt, chunk, window, limit)
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
    assert [bool(plan.flags & Flags.FIRST) for plan in sent] == [True] + [False] * (len(sent) - 1)
    assert (one.finish, one.generated) == ("length", limit)


@given(PROMPTS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 5))
def test_a_stop_token_ends_it_and_counts(prompt: list[int], chunk: int, window: int, before: int) -> None:
    one = driver(prompt, chunk, window, 50, [7, 9])
    chunks(one, [*range(1000, 1000 + before), 9], window)
    assert (one.finish, one.generated) == ("stop", before + 1)


def test_a_stop_token_in_the_last_place_is_a_stop_and_not_the_limit() -> None:
    one = driver([1], max_tokens=1, stop=[9])
    chunks(one, [9], 3)
    assert one.finish == "stop"


@given(PROMPTS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 12), st.integers(0, 9))
def test_after_a_cancel_nothing_is_sent_and_what_comes_back_is_ignored(
    prompt: list[int], chunk: int, window: int, steps: int, token: int
) -> None:
    one = driver(prompt, chunk, window, 100, [9])
    under_way: deque[Plan] = deque()
    for _ in range(steps):
        while (plan := one.next()) is not None:
            under_way.append(plan)
        back = under_way.popleft()
        one.prefilled() if back.flags & Flags.PREFILL else one.sampled(1)
    generated = one.generated
    one.cancel()
    assert one.next() is None
    for back in under_way:
        one.prefilled() if back.flags & Flags.PREFILL else one.sampled(token)
        assert one.next() is None
    assert (one.finish, one.generated) == ("cancelled", generated)


def test_a_cancel_after_the_end_does_not_change_the_end() -> None:
    one = driver([1], max_tokens=1)
    chunks(one, [5], 3)
    one.cancel()
    assert one.finish == "length"
