"""The scheduler over a pipeline on paper: every request gets its own text, whatever its neighbours do."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nova.engine.scheduler import Limits
from tests.unit.engine.flowshop import FlowShop, begin, text_alone

SMALL = Limits(prefill_chunk=16, prefill_min=24, tbt_factor=2.0)


def shop(stages: int = 2, limits: Limits = SMALL, each: float = 0.1) -> FlowShop:
    return FlowShop([lambda n: 1 + each * n] * stages, limits=limits)


class Serving(RuleBasedStateMachine):
    """Requests come, share beginnings, are cancelled and end, while chunks land."""

    @initialize(
        stages=st.integers(1, 4), chunk=st.sampled_from([1, 7, 40, 2048]), least=st.sampled_from([1, 20, 256]),
        each=st.sampled_from([0.0, 0.1, 1.0]), budget=st.sampled_from([0, 60, 1000]), trimmable=st.booleans(),
    )  # fmt: skip
    def start(self, stages: int, chunk: int, least: int, each: float, budget: int, trimmable: bool) -> None:
        self.shop = shop(stages, Limits(chunk, least, 2.0), each)
        self.shop.budget(budget, trimmable)
        self.begun: dict[int, object] = {}
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

    @rule(tokens=st.sampled_from([0, 40, 200, 1000]))
    def has_another_budget(self, tokens: int) -> None:
        self.shop.budget(tokens, self.shop.scheduler._prefixes.trimmable)

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
        assert sum(map(len, self.shop.caches.values())) <= 1000
        self.shop.budget(0)
        assert self.shop.caches == {}


Serving.TestCase.settings = settings(
    max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
test_requests_that_come_share_and_go = Serving.TestCase
