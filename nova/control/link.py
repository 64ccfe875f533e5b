"""What both ends of a session do with frames: number ours, hold theirs to a rising sequence. Sans-I/O."""

from __future__ import annotations

from nova.errors import ProtocolError
from nova.wire.codec import MAX_BODY_BYTES, Frames, decode, encode
from nova.wire.messages import Message

OUTSIDE = 0
"""The sequence of a Refused: it answers somebody who has no session, so it cannot have a number of one."""


class Replayed(ProtocolError):
    """A frame whose sequence does not rise: it came before, or out of its order."""


class Oversized(ProtocolError):
    """A frame beyond the limit; it was not decoded."""


class Link:
    """One session's numbering, both ways. `gaps` counts the numbers that the peer used and that never came here."""

    def __init__(self, limit: int = MAX_BODY_BYTES) -> None:
        self._limit = limit
        self._sent = OUTSIDE
        self._last: int | None = None
        self.gaps = 0

    def encode(self, message: Message) -> Frames:
        """Frames ready to send. Raises ProtocolError for a message that the peer would drop for its size."""
        frames = encode(message, self._sent + 1)
        if len(frames[1]) > self._limit:
            raise ProtocolError(f"{type(message).__name__} of {len(frames[1])} bytes, limit is {self._limit}")
        self._sent += 1
        return frames

    def admit(self, sequence: int) -> None:
        """Takes the number of a frame that decoded. Raises Replayed if it does not rise."""
        if sequence == OUTSIDE or (self._last is not None and sequence <= self._last):
            raise Replayed(f"sequence {sequence} after {self._last or OUTSIDE}: replayed or out of order")
        if self._last is not None:
            self.gaps += sequence - self._last - 1
        self._last = sequence


def read(frames: Frames, limit: int = MAX_BODY_BYTES) -> tuple[Message, int]:
    """`codec.decode`, with the oversized told from the malformed."""
    if any(len(frame) > limit for frame in frames):
        raise Oversized(f"frame of {max(map(len, frames))} bytes, limit is {limit}")
    return decode(frames, limit)


def outside(message: Message) -> Frames:
    """The frames of a message to somebody who has no session."""
    return encode(message, OUTSIDE)
