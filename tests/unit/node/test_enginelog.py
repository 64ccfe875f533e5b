"""An engine's log is passed on at a bounded rate, and its end is kept, whatever the engine writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.clock import FakeClock
from nova.node.enginelog import (
    MAX_LINE_BYTES,
    TAIL_CHARS,
    TAIL_LINES,
    WINDOW_BYTES,
    WINDOW_LINES,
    WINDOW_S,
    EngineLog,
    LineCutter,
)


def cut(pieces: list[bytes]) -> list[str]:
    cutter = LineCutter()
    return [line for piece in pieces for line in cutter.feed(piece)] + list(cutter.end())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"no end", ["no end"]),
        (b"", []),
        (b"\xff\xfe\n", ["\ufffd\ufffd"]),
        (b"\n\nx\r\n", ["", "", "x"]),
    ],
)
def test_a_log_is_cut_into_lines_whatever_its_bytes(data: bytes, expected: list[str]) -> None:
    assert cut([data]) == expected


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_how_the_bytes_come_makes_no_difference(pieces: list[bytes]) -> None:
    assert cut(pieces) == cut([b"".join(pieces)])


def test_a_line_without_an_end_is_cut_into_pieces() -> None:
    for pieces in ([b"x" * 200_000, b"\nlast\n"], [b"x" * 1000] * 200 + [b"\nlast\n"]):
        found = cut(pieces)
        assert "".join(found[:-1]) == "x" * 200_000
        assert max(map(len, found)) <= MAX_LINE_BYTES
        assert found[-1] == "last"


class Logged:
    """A log on a fake clock, and what it passed on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.passed: list[str] = []
        self.log = EngineLog("main.1/0", self.passed.append, self.clock)


def test_a_quiet_engine_is_passed_on_line_by_line_and_never_paused() -> None:
    one = Logged()
    for number in range(1000):
        assert one.log.feed(f"line {number}\n".encode()) == 0.0
        one.clock.advance(WINDOW_S / 100)
    one.log.end()
    assert one.passed == [f"line {number}" for number in range(1000)]
    assert one.log.dropped == 0


def test_of_a_flood_so_many_lines_are_passed_on_in_a_window_and_the_rest_is_counted() -> None:
    one = Logged()
    one.log.feed(b"flood\n" * 10_000)
    assert len(one.passed) == WINDOW_LINES
    assert one.log.dropped == 10_000 - WINDOW_LINES
    one.clock.advance(WINDOW_S)
    one.log.feed(b"after\n")
    assert one.passed[-1] == "after"


def test_after_a_window_s_share_of_bytes_the_pipe_is_left_alone_for_the_rest_of_the_window() -> None:
    one = Logged()
    one.clock.advance(WINDOW_S / 4)
    assert one.log.feed(b"x" * (WINDOW_BYTES - 1)) == 0.0
    assert one.log.feed(b"x") == pytest.approx(WINDOW_S * 3 / 4)
    one.clock.advance(WINDOW_S * 3 / 4)
    assert one.log.feed(b"x") == 0.0


def test_the_last_lines_are_kept_whatever_was_dropped_and_each_is_cut() -> None:
    one = Logged()
    one.log.feed(b"flood\n" * 10_000 + b"y" * 5000 + b"\nlast words")
    one.log.end()
    assert len(one.log.tail) == TAIL_LINES
    assert list(one.log.tail)[-2:] == ["y" * TAIL_CHARS, "last words"]
