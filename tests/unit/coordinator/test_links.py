"""A link that became slow is found, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.coordinator.links import CHUNKS, FLOOR_S, PIECES, LinkWatch
from nova.wire.values import LinkMeasure
from nova.wire.work import ChunkTiming

FAST = LinkMeasure(1, 1e-3, 1e12)


def chunk(*hops_ms: float, prefill: bool = False, nbytes: int = 0) -> ChunkTiming:
    """One chunk over len(hops_ms) + 1 stages, each of which waits 1 ms and computes for 2 ms."""
    at, hops = 0.0, [(0, 1000, 2000)]
    for taken_ms in hops_ms:
        at += 3.0 + taken_ms
        hops.append((round(at * 1e6), 1000, 2000))
    return ChunkTiming([(1, 5)], 1, prefill, 0, 0, hops, nbytes)


def watch(factor: float = 5.0) -> LinkWatch:
    return LinkWatch(factor, {0: FAST, 1: LinkMeasure(2, 1e-3, 1e12)})


def test_the_slow_link_is_found_once_enough_chunks_have_crossed_it() -> None:
    found = watch()
    found.saw([chunk(1.0, 19.0)] * (CHUNKS - 1), [0, 0, 0])
    assert found.slow() is None
    found.saw([chunk(1.0, 19.0)], [0, 0, 0])
    rank, taken_s, usual_s = found.slow() or (None, 0.0, 0.0)
    assert (rank, round(taken_s, 6), round(usual_s, 6)) == (1, 0.019, 0.001)


def test_one_late_chunk_is_no_slow_link() -> None:
    found = watch()
    found.saw([chunk(1.0, 1.0)] * CHUNKS + [chunk(500.0, 1.0)], [0, 0, 0])
    assert found.slow() is None


def test_clocks_are_brought_together_by_their_offsets() -> None:
    found = watch()
    late = [ChunkTiming([(1, 5)], 1, False, 0, 0, [(0, 0, 1000), (1_002_000_000, 0, 1000)])] * CHUNKS
    found.saw(late, [0, 1_000_000_000])
    assert found.recent == {0: 0.001}


def test_the_way_of_the_token_back_to_the_first_stage_is_a_link_too() -> None:
    found = LinkWatch(5.0, {0: FAST, 1: LinkMeasure(0, 1e-3, 1e12)})
    back = ChunkTiming([(1, 5)], 1, False, 1_000_000_000, 0, [(20_000_000, 0, 1000), (1_022_000_000, 0, 1000)])
    found.saw([back] * CHUNKS, [0, 1_000_000_000])
    assert found.recent == {0: 0.001, 1: 0.02}
    rank, taken_s, _ = found.slow() or (None, 0.0, 0.0)
    assert (rank, taken_s) == (1, 0.02)


def test_pieces_of_prompts_tell_of_a_bandwidth_that_fell_while_small_messages_are_as_quick_as_ever() -> None:
    found = LinkWatch(5.0, {0: LinkMeasure(1, 1e-3, 1e9)})
    small, piece = chunk(1.0, nbytes=16_384), chunk(17.0, prefill=True, nbytes=16 << 20)
    found.saw([small] * CHUNKS + [piece] * PIECES, [0, 0])
    assert found.slow() is None, "16 MiB take 17 ms at this bandwidth"
    found.saw([chunk(170.0, prefill=True, nbytes=16 << 20)] * PIECES + [small] * CHUNKS, [0, 0])
    rank, taken_s, usual_s = found.slow() or (None, 0.0, 0.0)
    assert (rank, round(taken_s, 3), round(usual_s, 3)) == (0, 0.17, 0.018)
    assert found.recent == {0: 0.001}, "what a decode step takes"


def test_a_factor_of_nought_tells_nothing() -> None:
    off = watch(factor=0.0)
    off.saw([chunk(99.0, 99.0)] * CHUNKS, [0, 0, 0])
    assert off.slow() is None


@given(st.lists(st.floats(0.0, 0.05), min_size=CHUNKS, max_size=CHUNKS), st.floats(1.1, 10.0))
def test_what_is_found_slow_is_above_its_bound_and_what_is_not_is_below(times: list[float], factor: float) -> None:
    found = LinkWatch(factor, {0: FAST})
    found.saw([chunk(each * 1e3) for each in times], [0, 0])
    bound = max(factor * 1e-3, 1e-3 + FLOOR_S)
    late = sum(each > bound for each in times)
    near = any(abs(each - bound) < 1e-6 for each in times)
    assert (found.slow() is not None) == (2 * late > CHUNKS) or near
