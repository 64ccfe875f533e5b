"""Arrays that MPI cannot count cross in blocks, of which both ends know the same."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nova_transport_mpi.group import PIECE, rows_of_blocks


@given(st.lists(st.integers(0, 2**20), max_size=4).filter(lambda shape: math.prod(shape[1:]) <= PIECE))
def test_blocks_hold_every_row_once_and_none_is_too_large(shape: list[int]) -> None:
    rows = rows_of_blocks(shape)
    if math.prod(shape) <= PIECE:
        assert rows == []
        return
    assert sum(rows) == shape[0]
    assert min(rows) > 0
    assert max(rows) * math.prod(shape[1:]) <= PIECE


def test_a_row_that_mpi_cannot_count_is_refused() -> None:
    with pytest.raises(ValueError, match="a row of this array has 4294967296"):
        rows_of_blocks((2, 2**16, 2**16))
