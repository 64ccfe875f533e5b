"""Control frames: a head of fixed size, and a msgpack body decoded by the type that the head declares.

    head    "NV", version (1 byte), kind (1 byte), sequence (8 bytes, little endian)
    body    msgpack of the message struct

The sequence rises by one with every message of a session and direction, so that a replayed frame is seen.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from nova.errors import ProtocolError
from nova.wire.kinds import KINDS
from nova.wire.messages import Message

VERSION = 3
MAX_BODY_BYTES = 4 << 20
"""Largest body accepted from a peer; the longest prompt that a control message carries fits many times over."""

_HEAD = struct.Struct("<2sBBQ")
HEAD_BYTES = _HEAD.size
_CODES = {message: code for code, message in KINDS.items()}
_DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    code: msgspec.msgpack.Decoder(message) for code, message in KINDS.items()
}
_ENCODER = msgspec.msgpack.Encoder()

Frames = list[bytes]


def encode(message: Message, sequence: int) -> Frames:
    """The two frames of a message."""
    return [_HEAD.pack(b"NV", VERSION, _CODES[type(message)], sequence), _ENCODER.encode(message)]


def decode(frames: Frames, limit: int = MAX_BODY_BYTES) -> tuple[Message, int]:
    """The message and its sequence number. Raises ProtocolError for everything that is not one."""
    if len(frames) != 2:
        raise ProtocolError(f"a message has 2 frames, got {len(frames)}")
    head, body = frames
    if len(head) != HEAD_BYTES:
        raise ProtocolError(f"head has {len(head)} bytes, expected {HEAD_BYTES}")
    magic, version, code, sequence = _HEAD.unpack(head)
    if magic != b"NV":
        raise ProtocolError(f"head begins with {magic!r}")
    if version != VERSION:
        raise ProtocolError(f"protocol version {version}, this is version {VERSION}: run the same Nova on all nodes")
    if len(body) > limit:
        raise ProtocolError(f"body of {len(body)} bytes, limit is {limit}")
    decoder = _DECODERS.get(code)
    if decoder is None:
        raise ProtocolError(f"unknown kind {code}")
    try:
        message: Message = decoder.decode(body)
    except msgspec.DecodeError as error:  # ValidationError is one of these
        raise ProtocolError(f"{KINDS[code].__name__}: {error}") from error
    except (RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{KINDS[code].__name__}: {error}") from error
    return message, sequence
