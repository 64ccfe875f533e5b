"""The tensor header: what is packed comes back, and what was never packed is refused as a protocol error."""

from __future__ import annotations

import struct
from math import prod
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.errors import ProtocolError
from nova.wire.rows import MAX_ROWS, ROW_BYTES, RowHead
from nova.wire.tensor import DTYPE_SIZES, HEADER_BYTES, MAX_DIMS, MAX_STAGES, Flags, Header, Hop, Kind, layout

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
STREAMS = st.integers(1, 2**64 - 1)
HOPS = st.builds(Hop, U64, U32, U32)

GROUP_AT, ROWS_AT, HOPS_AT = 48, 60, 62
DTYPE_AT, DIMS_AT, FLAGS_AT, WIDTH_AT, NBYTES_AT, SHAPE_AT = 5, 6, 8, 12, 16, 24


@st.composite
def headers(draw: st.DrawFn) -> Header:
    streams = draw(st.lists(STREAMS, min_size=1, max_size=12, unique=True))
    rows = tuple(RowHead(stream, draw(U32), draw(U32)) for stream in streams)
    kind, dtype = draw(st.sampled_from(Kind)), draw(st.sampled_from(sorted(DTYPE_SIZES)))
    more = draw(st.lists(st.integers(1, 24), max_size=MAX_DIMS - 2))
    width = draw(st.integers(1, 99))
    flags = draw(st.sampled_from([Flags.NONE, Flags.PREFILL, Flags.DROP]))
    shape = (0,) if flags & Flags.DROP else (len(rows), width, *more)
    sent = Header(layout(kind, flags, width, dtype, shape), rows, draw(U64), generation=draw(U32))
    for hop in draw(st.lists(HOPS, max_size=MAX_STAGES)):
        sent.add_hop(hop.received_ns, hop.waited_us, hop.compute_us)
    return sent


HEADERS = headers()


def header(shape: tuple[int, ...] = (1, 3, 4), dtype: str = "bfloat16") -> Header:
    rows = tuple(RowHead(7 + row, 5) for row in range(shape[0]))
    sent = Header(layout(Kind.HIDDEN, Flags.PREFILL, 3, dtype, shape), rows, group=2)
    sent.add_hop(1, 2, 3)
    return sent


def received(sent: Header) -> Header:
    got = Header.unpack(sent.pack())
    got.unpack_rows(sent.pack_rows())
    return got


@given(HEADERS)
def test_what_is_packed_comes_back(sent: Header) -> None:
    assert len(sent.pack()) == HEADER_BYTES
    assert len(sent.pack_rows()) == sent.row_bytes == Header.unpack(sent.pack()).row_bytes
    assert received(sent) == sent
    assert (received(sent).rows, received(sent).hops) == (sent.rows, sent.hops)
    assert sent.nbytes == prod(sent.layout.shape) * DTYPE_SIZES[sent.layout.dtype]


@given(st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES) | st.binary(max_size=2 * HEADER_BYTES))
def test_random_bytes_are_a_protocol_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Header.unpack(data)


@given(HEADERS, st.integers(0, HEADER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_is_a_protocol_error_or_another_whole_header(sent: Header, where: int, change: int) -> None:
    packed = bytearray(sent.pack())
    packed[where] ^= change
    try:
        got = Header.unpack(packed)
    except ProtocolError:
        return
    assert got.nbytes == sent.nbytes  # no single byte makes another length plausible
    if not sent.nbytes:
        return  # a chunk without a tensor says nothing else of how many rows it has
    got.unpack_rows(sent.pack_rows())
    assert received(got) == got


@given(HEADERS, st.integers(0, HEADER_BYTES))
def test_a_truncated_or_lengthened_header_is_refused(sent: Header, cut: int) -> None:
    packed = sent.pack()
    for data in (packed[:cut], packed + packed[: cut + 1]):
        if len(data) != HEADER_BYTES:
            with pytest.raises(ProtocolError, match=f"{len(data)} bytes, expected {HEADER_BYTES}"):
                Header.unpack(data)


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, b"NVT1", "begins with"),
        (4, b"\0", "0 is not a valid Kind"),
        (DTYPE_AT, bytes([len(DTYPE_SIZES)]), "out of range"),
        (DIMS_AT, bytes([MAX_DIMS + 1]), "7 dimensions"),
        (HOPS_AT, struct.pack("<H", MAX_STAGES + 1), "17 hops"),
        (ROWS_AT, struct.pack("<H", 0), "0 rows"),
        (ROWS_AT, struct.pack("<H", MAX_ROWS + 1), "257 rows"),
        (ROWS_AT, struct.pack("<H", 2), "the header says 2 rows"),
        (FLAGS_AT, struct.pack("<I", 4), "invalid value 4"),
        (FLAGS_AT, struct.pack("<I", 3), "24 bytes: exactly those that drop have none"),
        (WIDTH_AT, struct.pack("<I", 4), "has not 4 tokens for each row"),
        (NBYTES_AT, struct.pack("<Q", 25), "tensor of 25 bytes, shape says 24"),
        (SHAPE_AT, struct.pack("<I", 2), "tensor of 24 bytes, shape says 48"),
        (SHAPE_AT, struct.pack("<6I", *[2**32 - 1] * 6), "tensor of 24 bytes"),
    ],
)
def test_each_field_out_of_range_is_named(at: int, value: bytes, why: str) -> None:
    packed = bytearray(header().pack())
    packed[at : at + len(value)] = value
    with pytest.raises(ProtocolError, match=why):
        Header.unpack(packed)


def test_a_tensor_over_the_limit_is_refused_and_one_of_exactly_the_limit_passes() -> None:
    sent = header((1, 3, 4))
    assert Header.unpack(sent.pack(), limit=24).nbytes == 24
    with pytest.raises(ProtocolError, match="limit is 23"):
        Header.unpack(sent.pack(), limit=23)


@pytest.mark.parametrize("name", sorted(DTYPE_SIZES))
def test_sizes_are_those_of_mlx(name: str) -> None:
    assert mx.zeros((3,), getattr(mx, name)).nbytes == 3 * DTYPE_SIZES[name]


def test_codes_of_dtypes_never_change() -> None:
    assert list(DTYPE_SIZES) == [
        "bool_", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
        "float16", "float32", "bfloat16",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": (1, 1) + (1,) * (MAX_DIMS - 1)},
        {"dtype": "complex64"},
        {"shape": (2**32, 1)},
        {"shape": (1, -1), "width": -1},
        {"shape": (1, 2)},
        {"shape": (1,)},
        {"shape": (0,)},
        {"flags": Flags.DROP},
    ],
)
def test_a_layout_that_no_header_can_say_is_a_protocol_error_of_the_sender(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        layout(**{"kind": Kind.HIDDEN, "flags": Flags.NONE, "width": 1, "dtype": "uint8", "shape": (1, 1)} | wrong)


@pytest.mark.parametrize(("group", "generation"), [(2**64, 0), (-1, 0), (0, 2**32)])
def test_a_group_or_generation_that_no_header_can_say_is_a_protocol_error_of_the_sender(
    group: int, generation: int
) -> None:
    with pytest.raises(ProtocolError):
        Header(header().layout, (RowHead(1, 0),), group, generation=generation).pack()


def test_hops_beyond_what_a_header_can_say_are_a_protocol_error_of_the_sender() -> None:
    sent = Header(header().layout, (RowHead(1, 0),))
    with pytest.raises(ProtocolError):
        sent.add_hop(0, 2**32, 0)
    for _ in range(MAX_STAGES + 1):
        sent.add_hop(0, 0, 0)
    with pytest.raises(ProtocolError):
        sent.pack()


def test_a_chunk_goes_onward_as_another_tensor_with_its_hops() -> None:
    sent = header((1, 3), "uint32")
    onward = sent.onward(Kind.HIDDEN, "bfloat16", (1, 3, 8))
    assert (onward.rows, onward.group, onward.flags, onward.width) == ((RowHead(7, 5),), 2, Flags.PREFILL, 3)
    assert onward.hops == sent.hops == [Hop(1, 2, 3)]
    assert onward.nbytes == 48


def test_a_table_of_another_length_than_the_header_says_is_refused() -> None:
    got = Header.unpack(header((2, 3, 4)).pack())
    with pytest.raises(ProtocolError, match=f"{ROW_BYTES} bytes, expected {2 * ROW_BYTES}"):
        got.unpack_rows(bytes(ROW_BYTES))
