"""The table of a chunk's rows: what is packed comes back, and what contradicts itself is refused at both ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import ProtocolError
from nova.wire.rows import MAX_ROWS, ROW_BYTES, RowHead, pack, unpack

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
STREAMS = st.integers(1, 2**64 - 1)
GO_ON = st.builds(RowHead, STREAMS, U32, U32, st.just(False), st.just(0))
BEGIN = st.builds(RowHead, STREAMS, st.just(0), U32, st.just(True), st.just(0))
FORK = st.builds(RowHead, st.integers(1, 99), U32, U32, st.just(True), st.integers(100, 2**64 - 1))
ROWS = GO_ON | BEGIN | FORK
TABLES = st.lists(ROWS, min_size=1, max_size=20, unique_by=lambda row: row.stream)

WRONG = {
    "a source of a stream that goes on": RowHead(1, 4, source=2),
    "no stream": RowHead(0, 4),
    "its own source": RowHead(1, 4, first=True, source=1),
    "a beginning in the middle of nothing": RowHead(1, 4, first=True),
}


@given(TABLES)
def test_what_is_packed_comes_back(rows: list[RowHead]) -> None:
    packed = pack(rows)
    assert len(packed) == ROW_BYTES * len(rows)
    assert unpack(packed) == tuple(rows)


@given(st.binary(max_size=4 * ROW_BYTES))
def test_random_bytes_are_a_table_or_a_protocol_error(data: bytes) -> None:
    try:
        rows = unpack(data)
    except ProtocolError:
        return
    assert pack(rows) == data


@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG)
def test_a_row_that_contradicts_itself_is_refused_at_both_ends(row: RowHead) -> None:
    with pytest.raises(ProtocolError, match="contradicts itself"):
        pack([row])
    said = b"".join(int(value).to_bytes(size, "little") for value, size in zip(row, (8, 4, 4, 4, 8), strict=True))
    with pytest.raises(ProtocolError, match="contradicts itself"):
        unpack(said)


@pytest.mark.parametrize("count", [0, MAX_ROWS + 1])
def test_no_rows_and_too_many_are_refused_at_both_ends(count: int) -> None:
    rows = [RowHead(stream + 1, 0) for stream in range(count)]
    with pytest.raises(ProtocolError, match=f"a chunk has {count} rows, the limit is {MAX_ROWS}"):
        pack(rows)
    with pytest.raises(ProtocolError, match=f"a chunk has {count} rows"):
        unpack(bytes(ROW_BYTES * count))


def test_a_request_that_stands_twice_is_refused() -> None:
    with pytest.raises(ProtocolError, match="stands twice"):
        pack([RowHead(1, 0), RowHead(1, 1)])


@pytest.mark.parametrize("row", [RowHead(2**64, 0), RowHead(1, -1), RowHead(1, 0, 2**32)])
def test_a_place_that_no_table_can_say_is_a_protocol_error_of_the_sender(row: RowHead) -> None:
    with pytest.raises(ProtocolError):
        pack([row])


def test_a_flag_that_is_neither_yes_nor_no_is_refused() -> None:
    packed = bytearray(pack([RowHead(1, 0)]))
    packed[16] = 2
    with pytest.raises(ProtocolError, match="out of range"):
        unpack(packed)
