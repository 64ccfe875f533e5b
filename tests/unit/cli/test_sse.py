"""Server-sent events, however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.cli import sse
from nova.cli.sse import events
from nova.errors import ProtocolError

STREAM = (
    b': hello\r\ndata: {"a": 1}\r\n\r\nevent: x\ndata:two\ndata: lines\nid: 7\n\ndata: \xc3\xa4\r\rdata\n\ndata: half'
)


def cut(stream: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_cutting_gives_the_same_events(at: list[int]) -> None:
    assert list(events(cut(STREAM, at))) == ['{"a": 1}', "two\nlines", "ä", ""]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=5))
def test_what_was_sent_is_what_comes(texts: list[str]) -> None:
    stream = "".join(f"data: {text}\n\n" for text in texts).encode()
    assert list(events([stream])) == texts


def test_an_event_comes_as_soon_as_it_is_complete() -> None:
    def pieces() -> object:
        yield b"data: 1\n\n"
        raise AssertionError("the second piece was asked for before the first event was given")

    assert next(events(pieces())) == "1"  # type: ignore[arg-type]


@pytest.mark.parametrize("endless", [[b"data: x"] * 99, [b"data: 123456\n"] * 99, [b"x" * 99]])
def test_an_event_without_an_end_is_refused(endless: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 64)
    with pytest.raises(ProtocolError, match="more than 64 bytes"):
        list(events(endless))


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(ProtocolError, match="not UTF-8"):
        list(events([b"data: \xff\n\n"]))
