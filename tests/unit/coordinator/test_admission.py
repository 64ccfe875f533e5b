"""Memory is set aside on every stage, never more than there is, and given back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.coordinator.admission import BLOCK, UNBOUNDED, Admission
from nova.wire.values import KvCost

COSTS = st.builds(KvCost, st.integers(0, 1000), st.integers(0, 50), st.integers(0, 10**6), st.booleans())
MAYBE = st.lists(st.none() | COSTS, min_size=1, max_size=4)


def make(*costs: KvCost | None, share: float = 0.25) -> Admission:
    return Admission([f"n{stage}" for stage in range(len(costs))], costs, share)


def taken(cost: KvCost, positions: int) -> int:
    return cost.fixed + cost.per_token * -(-positions // BLOCK) * BLOCK


@given(MAYBE, st.floats(0, 0.9), st.lists(st.integers(1, 5000), max_size=30))
def test_what_is_admitted_fits_every_stage_and_what_is_refused_for_good_fits_none_alone(
    costs: list[KvCost | None], share: float, sizes: list[int]
) -> None:
    memory, held = make(*costs, share=share), dict[int, int]()
    for stream, positions in enumerate(sizes):
        alone = all(cost is None or taken(cost, positions) <= cost.budget * (1 - share) for cost in costs)
        assert (memory.never(positions) == "") == alone
        if memory.fits(positions):
            memory.reserve(stream, positions)
            held[stream] = positions
        for cost in costs:
            used = sum(taken(cost, each) for each in held.values()) if cost is not None else 0
            assert cost is None or used <= cost.budget * (1 - share)
    for stream in held:
        memory.release(stream)
        memory.release(stream)
    assert set(memory.usage.values()) <= {0.0}
    assert all(memory.fits(positions) for positions in sizes if not memory.never(positions))


@given(MAYBE, st.floats(0.01, 0.9), st.integers(1, 200))
def test_kept_texts_of_whole_blocks_fit_the_share_that_is_theirs(
    costs: list[KvCost | None], share: float, blocks: int
) -> None:
    tokens = make(*costs, share=share).prefix_tokens
    kept = tokens // (blocks * BLOCK)
    for cost in costs:
        if cost is not None and cost.fixed + cost.per_token:
            assert kept * taken(cost, blocks * BLOCK) <= cost.budget * share + 1e-6 * cost.budget


def test_the_reason_says_where_how_much_and_what_to_do() -> None:
    why = make(KvCost(0, 10, 10**6), KvCost(100, 10, 4000)).never(257)
    assert why.startswith(
        "stage 1 on node n1 has 3000 bytes for the caches of requests, and 257 positions may take 5220"
    )
    assert "max_tokens" in why
    assert "engine.kv_bytes" in why


def test_stages_that_do_not_say_what_a_request_takes_bound_nothing() -> None:
    memory = make(None, None)
    assert memory.fits(10**9)
    assert memory.never(10**9) == ""
    assert (memory.usage, memory.prefix_tokens, memory.trimmable) == ({}, UNBOUNDED, True)


def test_the_tightest_stage_and_the_least_able_one_say_what_is_kept() -> None:
    memory = make(KvCost(0, 10, 100_000), KvCost(0, 100, 100_000, trimmable=False), None)
    assert (memory.prefix_tokens, memory.trimmable) == (250, False)
    assert make(KvCost(0, 10, 100_000), share=0.0).prefix_tokens == 0


def test_usage_is_each_node_s_share_of_its_budget() -> None:
    memory = make(KvCost(0, 10, 10_240), KvCost(440, 10, 30_000))
    memory.reserve(7, 200)
    assert memory.usage == {"n0": 0.25, "n1": 0.1}
