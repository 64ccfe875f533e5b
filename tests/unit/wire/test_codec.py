"""Control frames: every message survives the wire, and whatever is no message is a protocol error."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova.errors import ProtocolError
from nova.wire.codec import HEAD_BYTES, VERSION, decode, encode
from nova.wire.kinds import KINDS
from nova.wire.messages import Begin, Heartbeat, Message, StartEngine
from nova.wire.values import EngineKey
from nova.wire.work import Sampling
from tests.unit.wire.instances import ANY_MESSAGE, MESSAGES

CODES = {
    "Hello": 1, "Welcome": 2, "Refused": 3, "Heartbeat": 4, "Goodbye": 5, "Offers": 6,
    "StartEngine": 10, "StopEngine": 11, "EngineState": 12, "EngineExited": 13, "Gather": 14, "Gathered": 15,
    "Begin": 16, "Cancel": 17, "Step": 20, "Pooled": 21, "Budget": 22, "Measure": 23, "Measured": 24,
    "Generate": 30, "Abandon": 31, "Accepted": 32, "Piece": 33, "Completed": 34, "Failed": 35, "StatusQuery": 36,
    "StatusReply": 37, "ExplainQuery": 38, "ExplainReply": 39, "CheckQuery": 40, "CheckReply": 41,
    "Embedded": 42, "TraceQuery": 43, "TraceReply": 44, "PlanQuery": 45, "PlanReply": 46,
}  # fmt: skip
"""As they went out into the world. A line is only ever added; 18 and 19 are gone for ever."""


def head(code: int, version: int = VERSION, magic: bytes = b"NV", sequence: int = 1) -> bytes:
    return struct.pack("<2sBBQ", magic, version, code, sequence)


def subclasses(root: type[Message]) -> set[type[Message]]:
    return {root}.union(*map(subclasses, root.__subclasses__())) if root.__subclasses__() else {root}


def test_codes_never_change() -> None:
    assert {message.__name__: code for code, message in KINDS.items()} == CODES


def test_every_message_has_exactly_one_code() -> None:
    assert len(set(KINDS.values())) == len(KINDS)
    assert set(KINDS.values()) == subclasses(Message) - {Message}


@pytest.mark.parametrize("code", sorted(KINDS))
def test_every_message_survives_the_wire(code: int) -> None:
    @settings(max_examples=15)
    @given(MESSAGES[code], st.integers(0, 2**64 - 1))
    def survives(message: Message, sequence: int) -> None:
        assert decode(encode(message, sequence)) == (message, sequence)
        assert encode(message, sequence)[0] == head(code, sequence=sequence)

    survives()


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_random_frames_are_a_protocol_error_and_nothing_else(frames: list[bytes]) -> None:
    with pytest.raises(ProtocolError):
        decode(frames)


@given(st.sampled_from(sorted(KINDS)), st.binary(max_size=60))
def test_a_random_body_is_a_protocol_error_and_nothing_else(code: int, body: bytes) -> None:
    try:
        message, _ = decode([head(code), body])
    except ProtocolError:
        return
    assert type(message) is KINDS[code]


@given(ANY_MESSAGE, st.data())
def test_a_damaged_message_is_a_protocol_error_or_another_whole_message(message: Message, data: st.DataObject) -> None:
    frames = encode(message, 1)
    which = data.draw(st.integers(0, 1))
    damaged = bytearray(frames[which])
    where = data.draw(st.integers(0, len(damaged) - 1))
    if data.draw(st.booleans()):
        damaged[where] ^= data.draw(st.integers(1, 255))
    else:
        del damaged[where:]
    frames[which] = bytes(damaged)
    try:
        got, _ = decode(frames)
    except ProtocolError:
        return
    assert type(got) in KINDS.values()


@given(ANY_MESSAGE)
def test_an_unknown_field_is_refused(message: Message) -> None:
    fields = {**msgspec.msgpack.decode(encode(message, 1)[1]), "surprise": 1}
    code = CODES[type(message).__name__]
    with pytest.raises(ProtocolError, match="surprise"):
        decode([head(code), msgspec.msgpack.encode(fields)])


def test_an_unknown_field_inside_a_record_is_refused() -> None:
    key, sampling = EngineKey("main", 1, 0), Sampling()
    fields = msgspec.to_builtins(Begin(key, 1, [1], 1, [], sampling))
    fields["engine"]["surprise"] = 1
    with pytest.raises(ProtocolError, match=r"surprise.*\$\.engine"):
        decode([head(CODES["Begin"]), msgspec.msgpack.encode(fields)])


@given(st.integers(0, 255).filter(lambda version: version != VERSION))
def test_another_version_says_so_and_what_to_do(version: int) -> None:
    with pytest.raises(ProtocolError, match=f"protocol version {version}.*same Nova on all nodes"):
        decode([head(4, version), b"\x81\xa7sent_ns\x01"])


@given(st.integers(0, 255).filter(lambda code: code not in KINDS))
def test_an_unknown_kind_is_named(code: int) -> None:
    with pytest.raises(ProtocolError, match=f"unknown kind {code}"):
        decode([head(code), b"\x80"])


def test_a_body_over_the_limit_is_refused_unread_and_one_of_exactly_the_limit_passes() -> None:
    frames = encode(Heartbeat(12345), 1)
    limit = len(frames[1])
    assert decode(frames, limit)[0] == Heartbeat(12345)
    with pytest.raises(ProtocolError, match=f"body of {limit} bytes, limit is {limit - 1}"):
        decode(frames, limit - 1)


@pytest.mark.parametrize(
    "value",
    [
        b"\x91" * 5000 + b"\x90",  # nested deeper than Python's stack
        b"\xdf\xff\xff\xff\xff",  # a map that claims four thousand million entries
        b"\xdd\xff\xff\xff\xff",  # an array that does
        b"\x81\x81\x01\x01\x02",  # a map as a key
        b"\xa2\xff\xff",  # no UTF-8
        b"\xd7\xff" + b"\xff" * 8,  # a time that is none
        b"\xc1",  # never used by msgpack
    ],
)
def test_a_hostile_value_in_a_free_field_is_a_protocol_error(value: bytes) -> None:
    spec = {
        "model": "m", "first_layer": 0, "last_layer": 1, "layers": 1, "size": 1, "transport": "t", "options": {},
        "ticket": b"", "start_s": 1.0, "open_s": 1.0, "join_s": 1.0, "load_s": 1.0, "transfer_s": 1.0,
        "prefill_chunk": 1, "max_tensor_bytes": 1,
    }  # fmt: skip
    start = {"engine": {"group": "main", "generation": 1, "rank": 0}, "spec": spec}
    body = msgspec.msgpack.encode(start)
    frames = [head(CODES["StartEngine"]), body]
    assert isinstance(decode(frames)[0], StartEngine)
    frames[1] = body.replace(b"\xa7options\x80", b"\xa7options\x81\xa1x" + value)
    with pytest.raises(ProtocolError, match="StartEngine"):
        decode(frames)


def test_the_head_has_its_documented_size() -> None:
    assert len(head(4)) == HEAD_BYTES
    for size in (0, HEAD_BYTES - 1, HEAD_BYTES + 1):
        with pytest.raises(ProtocolError, match=f"head has {size} bytes"):
            decode([(head(4) + b"\0")[:size], b"\x80"])
