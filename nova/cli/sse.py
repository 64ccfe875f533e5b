"""Server-sent events, from pieces of bytes as they come. Pure.

The format is the one of the HTML standard, section "Server-sent events"; of its fields only `data` is of use here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nova.errors import ProtocolError

MAX_EVENT_BYTES = 4 << 20
"""More than any piece of an answer; a server that sends more in one event is none that we speak to."""


def events(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, those that are complete. Raises ProtocolError for one that is too large or not UTF-8."""
    data: list[bytes] = []
    size = 0
    for line in _lines(pieces):
        if not line:
            if data:
                yield _text(b"\n".join(data))
            data, size = [], 0
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
            size += len(value) + 1
            _check(size)


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Lines end with \\n, \\r or \\r\\n, wherever the pieces are cut."""
    rest = b""
    for piece in pieces:
        rest += piece
        # A last \r may be half of \r\n: it waits for what follows.
        held = rest[-1:] if rest.endswith(b"\r") else b""
        *whole, rest = rest[: len(rest) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += held
        _check(len(rest))
        yield from whole
    if rest.endswith(b"\r"):
        yield rest[:-1]


def _check(size: int) -> None:
    if size > MAX_EVENT_BYTES:
        raise ProtocolError(f"the server sent an event of more than {MAX_EVENT_BYTES} bytes")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"the server sent an event that is not UTF-8 (byte {error.start})") from error
