"""What is said of an error is bounded and can be sent, whatever a plugin raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.engine.failure import MAX_CHARS, MAX_LINE_CHARS, MAX_LINES, described, message, trace
from nova.errors import PeerLost
from nova.wire.codec import encode
from nova.wire.messages import EngineState
from nova.wire.values import EngineKey


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raised(error: BaseException) -> BaseException:
    """With a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "type_and_message", "message_alone"),
    [
        (ValueError("no such device"), "ValueError: no such device", "no such device"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError("two\nlines"), "ValueError: two lines", "two lines"),
        (SystemExit(3), "SystemExit: 3", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
        (PeerLost(1, "it: closed"), "PeerLost: rank 1 is gone: it: closed", "rank 1 is gone: it: closed"),
        (Mute(), "Mute: <exception str() failed>", "<exception str() failed>"),
        (ValueError("\udc80"), "ValueError: ?", "?"),
    ],
)
def test_an_error_is_one_line(error: BaseException, type_and_message: str, message_alone: str) -> None:
    assert described(error) == type_and_message
    assert message(error) == message_alone


def test_a_message_of_megabytes_is_cut() -> None:
    error = raised(ValueError("x" * (10 << 20)))
    assert len(described(error)) <= MAX_CHARS
    assert len(trace(error)) <= MAX_LINES * (MAX_LINE_CHARS + 1)


@given(st.text(st.characters(exclude_categories=[]), max_size=50))
def test_any_message_can_be_sent(text: str) -> None:
    error = raised(ValueError(text))
    for said in (described(error), message(error), trace(error)):
        encode(EngineState(EngineKey("main", 1, 0), "failed", detail=said), 1)
    assert "\n" not in described(error)


def test_a_trace_ends_with_the_innermost_frame_and_the_error() -> None:
    *_, frame, _, last = trace(raised(ValueError("deep"))).splitlines()
    assert last == "ValueError: deep"
    assert "in raised" in frame
