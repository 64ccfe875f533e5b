"""A chunk is taken only where its request's cache ended."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.engine.caches import Caches
from nova.errors import TransportFault
from nova.wire.tensor import Flags, Header, Kind, layout


def chunk(stream: int, position: int, width: int) -> Header:
    flags = Flags.NONE if position else Flags.FIRST
    return Header(layout(Kind.TOKENS, flags, width, "uint32", (1, width)), stream, 0, position)


def chunks(stream: int, widths: list[int]) -> list[Header]:
    return [chunk(stream, sum(widths[:index]), width) for index, width in enumerate(widths)]


WIDTHS = st.lists(st.integers(1, 9), min_size=2, max_size=6)


def made() -> Caches:
    return Caches(lambda: object())


@given(WIDTHS, WIDTHS)
def test_chunks_in_order_each_continue_their_own_request_s_cache(one: list[int], other: list[int]) -> None:
    caches, found = made(), dict[int, list[Any]]()
    for header in sorted(chunks(1, one) + chunks(2, other), key=lambda header: header.position):
        found.setdefault(header.stream, []).append(caches.continued(header))
    assert all(len(set(map(id, same))) == 1 for same in found.values())
    assert found[1][0] is not found[2][0]


@given(WIDTHS, st.data())
def test_a_chunk_that_is_lost_repeated_or_overtaken_is_refused(widths: list[int], data: st.DataObject) -> None:
    right = chunks(1, widths)
    at = data.draw(st.integers(0, len(right) - 2))
    wrong = data.draw(
        st.sampled_from(
            [
                [*right[:at], *right[at + 1 :]],
                [*right[: at + 1], *right[at:]],
                [*right[:at], right[at + 1], right[at], *right[at + 2 :]],
            ]
        )
    )
    caches = made()
    with pytest.raises(TransportFault, match="request 1"):
        [caches.continued(header) for header in wrong]


def test_a_dropped_cache_is_gone() -> None:
    caches = made()
    caches.continued(chunk(1, 0, 4))
    assert 1 in caches
    caches.drop(1)
    caches.drop(1)
    assert 1 not in caches
    with pytest.raises(TransportFault, match="before its first one"):
        caches.continued(chunk(1, 4, 1))
