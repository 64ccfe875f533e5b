"""The scheduler over a pipeline on paper: every request gets its own text, whatever its neighbours do."""

from __future__ import annotations

from itertools import groupby

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nova.engine.prefixes import BLOCK
from nova.engine.scheduler import Limits
from nova.wire.messages import Begin
from tests.unit.engine.flowshop import FlowShop, begin, text_alone

SMALL = Limits(prefill_chunk=16, prefill_min=24, tbt_factor=2.0)


def shop(stages: int = 2, limits: Limits = SMALL, each: float = 0.1) -> FlowShop:
    return FlowShop([lambda n: 1 + each * n] * stages, limits=limits)


class Serving(RuleBasedStateMachine):
    """Requests come, share beginnings, are cancelled and end, while chunks land."""

    @initialize(
        stages=st.integers(1, 4), chunk=st.sampled_from([1, 7, 40, 2048]), least=st.sampled_from([1, 20, 256]),
        each=st.sampled_from([0.0, 0.1, 1.0]), budget=st.sampled_from([0, 600, 4000]), trimmable=st.booleans(),
    )  # fmt: skip
    def start(self, stages: int, chunk: int, least: int, each: float, budget: int, trimmable: bool) -> None:
        self.shop = shop(stages, Limits(chunk, least, 2.0), each)
        self.shop.budget(budget, trimmable)
        self.begun: dict[int, Begin] = {}
        self.cancelled: set[int] = set()
        self.texts: list[list[int]] = [list(range(100, 180))]

    @rule(
        of=st.integers(0, 99), shared=st.integers(0, 80), own=st.lists(st.integers(0, 3), min_size=1, max_size=60),
        limit=st.integers(1, 12), stop=st.lists(st.integers(0, 49), max_size=4), pool=st.booleans(),
        copies=st.integers(1, 3),
    )  # fmt: skip
    def comes(self, of: int, shared: int, own: list[int], limit: int, stop: list[int], pool: bool, copies: int) -> None:
        for _ in range(copies):
            stream = len(self.begun) + 1
            prompt = [*self.texts[of % len(self.texts)][:shared], *own]
            one = begin(stream, prompt, limit, stop, "mean" if pool and copies == 1 else "")
            self.begun[stream] = one
            self.texts.append([*prompt, *text_alone(one)[0]])
            self.shop.begin(one)

    @rule(steps=st.integers(1, 6))
    def lands(self, steps: int) -> None:
        for _ in range(steps):
            self.shop.step()

    @precondition(lambda self: self.begun)
    @rule(which=st.integers(0, 999))
    def is_cancelled(self, which: int) -> None:
        stream = which % len(self.begun) + 1
        if self.shop.cancel(stream):
            self.cancelled.add(stream)
        assert self.shop.scheduler.request(stream) is None or not self.shop.cancel(stream)

    @rule(tokens=st.sampled_from([0, 300, 800, 4000]))
    def has_another_budget(self, tokens: int) -> None:
        self.shop.budget(tokens, self.shop.trimmable)

    @invariant()
    def something_is_under_way_while_anybody_waits(self) -> None:
        if hasattr(self, "shop"):
            waiting = [stream for stream in self.begun if self.shop.scheduler.request(stream)]
            assert not waiting or self.shop.scheduler.under_way

    def teardown(self) -> None:
        if not hasattr(self, "shop"):
            return
        self.shop.run()
        for stream, one in self.begun.items():
            outcomes = self.shop.told.get(stream, [])
            tokens = [token for outcome in outcomes for token in outcome.tokens]
            finishes = [outcome.finish for outcome in outcomes]
            if stream in self.cancelled:
                assert not any(finishes)
                assert tokens == text_alone(one)[0][: len(tokens)]
                continue
            expected, finish = ([], "stop") if one.pool else text_alone(one)
            assert (tokens, finishes[-1]) == (expected, finish)
            assert not any(finishes[:-1])
        assert all(self.shop.scheduler.request(stream) is None for stream in self.begun)
        assert sum(map(len, self.shop.caches.values())) <= self.shop.kept_at_most
        self.shop.budget(0)
        assert self.shop.caches == {}


Serving.TestCase.settings = settings(
    max_examples=80, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_requests_that_come_share_and_go = Serving.TestCase


def sent(shop: FlowShop, stream: int) -> list[tuple[int, int, bool, int]]:
    """Position, tokens, whether it is prefill, and the source of all its rows."""
    return [
        (row.position, len(row.tokens), chunk.prefill, row.source)
        for chunk in shop.sent
        for row in chunk.rows
        if row.stream == stream
    ]


def prefilled(shop: FlowShop, *streams: int) -> list[int]:
    """Tokens of each that went round in prefill chunks."""
    return [sum(tokens for _, tokens, prefill, _ in sent(shop, stream) if prefill) for stream in streams]


def groups(shop: FlowShop) -> list[tuple[int, list[int]]]:
    return [(chunk.group, [row.stream for row in chunk.rows]) for chunk in shop.sent if not chunk.prefill]


PROMPT = list(range(100, 140))


def test_a_prompt_is_prefilled_but_for_its_last_token() -> None:
    alone = shop(1)
    alone.begin(begin(1, PROMPT, 2))
    alone.run()
    assert sent(alone, 1) == [
        (0, 16, True, 0),
        (16, 16, True, 0),
        (32, 7, True, 0),
        (39, 1, False, 0),
        (40, 1, False, 0),
    ]


def test_several_pieces_of_a_prompt_are_under_way_at_once_and_one_is_not_cut_below_its_least() -> None:
    piped = shop(2)
    piped.begin(begin(1, list(range(1000)), 1))
    assert piped.scheduler.under_way == 3
    piped = shop(2, Limits(prefill_chunk=500, prefill_min=300, tbt_factor=2))
    piped.begin(begin(1, list(range(300)), 1))
    assert sent(piped, 1) == [(0, 299, True, 0), (299, 1, False, 0)]


def reads_in_a_row(shop: FlowShop) -> list[int]:
    """How many prefill chunks came one behind the other, each time that there were some."""
    return [len(list(run)) for prefill, run in groupby(shop.sent, lambda chunk: chunk.prefill) if prefill]


def test_of_a_burst_of_short_prompts_all_are_read_before_the_fewer_texts_that_decode_go_on() -> None:
    burst = shop(2, Limits(prefill_chunk=100, prefill_min=50, tbt_factor=2))
    for stream in range(1, 9):
        burst.begin(begin(stream, list(range(100 * stream, 100 * stream + 20)), 30))
    burst.run()
    reads = [index for index, chunk in enumerate(burst.sent) if chunk.prefill]
    assert len(reads) == 8
    before = [chunk for chunk in burst.sent[: reads[-1]] if not chunk.prefill]
    assert len(before) <= 3


def test_many_texts_that_decode_wait_for_no_more_short_prompts_than_may_be_under_way() -> None:
    busy = shop(2, Limits(prefill_chunk=100, prefill_min=50, tbt_factor=2))
    for stream in range(1, 31):
        busy.begin(begin(stream, [stream, 1], 200))
    while len(busy.told.get(30, [])) < 3:
        busy.step()
    since = len(busy.sent)
    for stream in range(31, 43):
        busy.begin(begin(stream, list(range(100 * stream, 100 * stream + 20)), 5))
    busy.run()
    busy.sent = busy.sent[since:]
    assert max(reads_in_a_row(busy)) == 3


def test_an_embedding_is_prefill_to_its_last_token_and_shares_nothing() -> None:
    one = shop()
    one.budget(1000)
    one.begin(begin(1, PROMPT, pool="mean"))
    one.begin(begin(2, PROMPT, 1))
    one.begin(begin(3, PROMPT, pool="last"))
    one.run()
    assert prefilled(one, 1, 2, 3) == [40, 39, 40]
    assert [(outcome.tokens, outcome.finish) for outcome in one.told[1]] == [([], "stop")]
    assert set(one.caches) == {2}


def test_choices_of_one_prompt_compute_it_once() -> None:
    one = shop()
    one.budget(1000)
    for stream in (1, 2, 3, 4):
        one.begin(begin(stream, PROMPT, 3))
    one.run()
    assert prefilled(one, 1, 2, 3, 4) == [39, 0, 0, 0]
    assert [one.told[stream][0].cached for stream in (1, 2, 3, 4)] == [0, 39, 39, 39]
    assert all(outcome.cached == 0 for outcomes in one.told.values() for outcome in outcomes[1:])


def test_whoever_waited_for_a_cancelled_request_computes_its_prompt_itself() -> None:
    one = shop(1)
    one.budget(1000)
    for stream in (1, 2, 3):
        one.begin(begin(stream, list(range(200)), 2))
    assert sent(one, 2) == []
    one.step()
    assert one.cancel(1)
    one.run()
    assert [len(one.told[stream]) for stream in (2, 3)] == [2, 2]
    assert one.told[3][0].cached == 199


def test_a_second_turn_computes_only_what_it_adds() -> None:
    one = shop()
    one.budget(1000)
    first = begin(1, PROMPT, 5)
    one.begin(first)
    one.run()
    text = [*PROMPT, *text_alone(first)[0]]
    one.begin(begin(2, [*text, 1, 2, 3], 1))
    one.run()
    assert one.told[2][0].cached == len(text) - 1
    assert sent(one, 2)[0] == (44, 3, True, 1)


def kept_and_full_ring() -> FlowShop:
    """Request 1 has ended and is kept; 4 is to continue it, but the ring is full."""
    one = shop(1)
    one.budget(BLOCK)
    one.begin(begin(1, PROMPT, 5))
    one.run()
    for stream in (2, 3):
        one.begin(begin(stream, [stream] * 17, 2))
    one.begin(begin(4, PROMPT, 2))
    assert sent(one, 4) == []
    one.budget(0)
    return one


def test_a_source_is_not_dropped_before_the_row_that_forks_from_it() -> None:
    one = kept_and_full_ring()
    assert 1 in one.caches
    one.run()
    assert sent(one, 4)[0] == (39, 1, False, 1)
    assert one.caches == {}


def test_a_cancelled_fork_does_not_hold_its_source() -> None:
    one = kept_and_full_ring()
    assert one.cancel(4)
    assert 1 not in one.caches


def test_members_stay_in_their_group_and_whoever_comes_fills_the_smaller_one() -> None:
    one = shop(2)
    for stream in (1, 2, 3, 4):
        one.begin(begin(stream, [stream], 40))
    one.run(until=lambda: len(one.told.get(4, [])) >= 3)
    before = dict(groups(one)[-2:])
    assert sorted(map(len, before.values())) == [2, 2]
    one.begin(begin(5, [5], 40))
    for _ in range(8):
        one.step()
    after = dict(groups(one)[-2:])
    assert sorted(map(len, after.values())) == [2, 3]
    assert all(after[group][:2] == members for group, members in before.items())


def test_a_long_text_decodes_apart_from_many_short_ones() -> None:
    one = FlowShop([lambda n: 1 + n / 1000], texts=False)
    one.begin(begin(1, [9] * 8000, 900))
    for stream in range(2, 9):
        one.begin(begin(stream, [stream] * 50, 900))
    one.run(until=lambda: all(len(one.told.get(stream, [])) >= 20 for stream in range(1, 9)))
    last = dict(groups(one)[-2:])
    assert sorted(row for rows in last.values() for row in rows) == list(range(1, 9))
    assert all(len(rows) <= 2 for rows in last.values() if 1 in rows)


def test_what_a_cancelled_request_has_under_way_still_counts() -> None:
    one = shop(1)
    one.begin(begin(1, PROMPT, 3))
    assert one.scheduler.under_way == 2
    assert one.cancel(1)
    assert not one.cancel(1)
    assert (one.scheduler.under_way, one.caches) == (2, {})
    one.begin(begin(2, [5], 1))
    assert sent(one, 2) == []
    one.run()
    assert list(one.told) == [2]
