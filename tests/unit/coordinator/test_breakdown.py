"""Where a token's time went: the rows explain the whole, on whatever clocks they were taken."""

from __future__ import annotations

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.coordinator.breakdown import Tally
from nova.wire.values import Share, StageShare
from nova.wire.work import ChunkTiming

OFFSETS = st.lists(st.integers(-(10**15), 10**15), min_size=3, max_size=3)
MS = 1_000_000


def tally(timings: list[ChunkTiming], offsets_ns: list[int]) -> Tally:
    added = Tally()
    for each in timings:
        added.add(each, offsets_ns)
    return added


def breakdown(timings: list[ChunkTiming], nodes: list[str], offsets_ns: list[int]) -> list[Share]:
    return tally(timings, offsets_ns).breakdown(nodes)


def stage_shares(timings: list[ChunkTiming], nodes: list[str], layers: list[tuple[int, int]]) -> list[StageShare]:
    return tally(timings, [0] * len(nodes)).stages(nodes, layers)


def timing(start: int, stages: list[tuple[int, int, int]], prefill: bool = False, position: int = 0) -> ChunkTiming:
    """A pass that began at `start` ns; each stage is (ms on the way to it, ms waited, ms computed)."""
    now, hops = start, []
    for way, waited, compute in stages:
        now += way * MS
        hops.append((now, waited * 1000, compute * 1000))
        now += (waited + compute) * MS
    return ChunkTiming([(1, position)], 1, prefill, start, now, hops)


def decode(tokens: int, stages: list[tuple[int, int, int]]) -> list[ChunkTiming]:
    """Decode steps, each sent in the moment the one before it was done."""
    steps, now = [timing(0, [(1, 0, 9)] * len(stages), prefill=True)], 0
    for position in range(tokens):
        steps.append(timing(now, stages, position=position))
        now = steps[-1].done_ns
    return steps


def shifted(timings: list[ChunkTiming], offsets: list[int]) -> list[ChunkTiming]:
    """The same, with each stage's clock off by so much."""
    last = offsets[-1]
    return [
        ChunkTiming(
            each.rows, each.width, each.prefill, each.sent_ns + last, each.done_ns + last,
            [(at + offset, *rest) for (at, *rest), offset in zip(each.hops, offsets, strict=False)],  # type: ignore[misc]
        )
        for each in timings
    ]  # fmt: skip


def test_two_stages_by_hand() -> None:
    rows = breakdown(decode(4, [(2, 0, 70), (1, 1, 36)]), ["a", "b"], [0, 0])
    assert [(row.name, row.ms) for row in rows] == [
        ("return to a", 2.0), ("stage 0 (a)", 70.0), ("hop 0 to 1", 1.0), ("stage 1 (b)", 36.0), ("rest", 1.0),
    ]  # fmt: skip
    assert rows[1].share == pytest.approx(70 / 110)


def test_one_stage_has_neither_a_hop_nor_a_return() -> None:
    rows = breakdown(decode(3, [(0, 0, 5)]), ["a"], [0])
    assert [row.name for row in rows] == ["stage 0 (a)", "rest"]


@pytest.mark.parametrize("tokens", [0, 1])
def test_without_two_tokens_there_is_nothing_to_break_down(tokens: int) -> None:
    assert breakdown(decode(tokens, [(2, 0, 70), (1, 1, 36)]), ["a", "b"], [0, 0]) == []
    assert breakdown([], ["a", "b"], [0, 0]) == []


HOPS = st.tuples(st.integers(0, 10**12), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
ARBITRARY = st.lists(
    st.builds(
        ChunkTiming,
        st.integers(0, 99), st.integers(1, 9), st.booleans(), st.integers(0, 10**12), st.integers(0, 10**12),
        st.lists(HOPS, min_size=3, max_size=3),
    ),
    max_size=6,
)  # fmt: skip


@given(ARBITRARY, OFFSETS)
def test_the_rows_add_up_to_the_whole_whatever_the_clocks_said(timings: list[ChunkTiming], offsets: list[int]) -> None:
    rows = breakdown(timings, ["a", "b", "c"], offsets)
    done = [each.done_ns / 1e6 for each in timings if not each.prefill]
    if len(done) < 2:
        assert rows == []
        return
    whole = (done[-1] - done[0]) / (len(done) - 1)
    scale = max(1.0, *(abs(row.ms) for row in rows))
    assert sum(row.ms for row in rows) == pytest.approx(whole, abs=1e-9 * scale)
    assert [row.name for row in rows][-1] == "rest"
    assert all(row.ms >= 0 for row in rows if row.name != "rest")
    if abs(whole) > 1e-6 * scale:
        assert sum(row.share for row in rows) == pytest.approx(1.0, abs=1e-3)


@given(st.lists(st.tuples(*[st.integers(0, 90)] * 3), min_size=3, max_size=3), OFFSETS)
def test_the_offsets_of_the_clocks_are_taken_out(stages: list[tuple[int, int, int]], offsets: list[int]) -> None:
    timings, nodes = decode(4, stages), ["a", "b", "c"]
    assert breakdown(shifted(timings, offsets), nodes, offsets) == breakdown(timings, nodes, [0, 0, 0])


def test_a_hop_never_takes_less_than_no_time() -> None:
    rows = breakdown(decode(3, [(0, 0, 5), (0, 0, 5)]), ["a", "b"], [0, 2 * MS])
    assert {row.name: row.ms for row in rows}["hop 0 to 1"] == 0.0
    assert sum(row.ms for row in rows) == pytest.approx(10.0)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=6))
def test_a_stage_s_share_is_its_mean_compute_without_the_first_step(compute: list[int]) -> None:
    timings = [ChunkTiming([(1, 0)], 1, False, 0, 0, [(0, 0, us), (0, 0, 1000)]) for us in compute]
    first, second = stage_shares(timings, ["a", "b"], [(0, 5), (5, 7)])
    assert first.ms == pytest.approx(fmean(compute[1:] or compute) / 1000)
    assert (first.node, first.first_layer, first.layers) == ("a", 0, 5)
    assert (second.node, second.first_layer, second.layers, second.ms) == ("b", 5, 2, 1.0)


def test_without_a_decode_step_the_stages_are_listed_all_the_same() -> None:
    assert [share.ms for share in stage_shares([], ["a", "b"], [(0, 1), (1, 2)])] == [0.0, 0.0]
