"""What a log line carries, and what it never carries."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from nova import log


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines_carry_level_time_node_and_facts() -> None:
    out = io.StringIO()
    log.setup("info", "json", stream=out, node="mini")
    structlog.get_logger().info("group formed", transport="tcp", seconds=0.5)
    (line,) = lines(out)
    assert line.pop("timestamp")
    assert line == {"event": "group formed", "level": "info", "node": "mini", "transport": "tcp", "seconds": 0.5}


def test_other_libraries_logs_take_the_same_way_and_name_their_logger() -> None:
    out = io.StringIO()
    log.setup("info", "json", stream=out, node="mini")
    logging.getLogger("stevedore.extension").warning("could not load %s", "x")
    (line,) = lines(out)
    assert (line["event"], line["node"], line["logger"]) == ("could not load x", "mini", "stevedore.extension")


def test_below_the_level_nothing_is_written() -> None:
    out = io.StringIO()
    log.setup("warning", "text", stream=out)
    structlog.get_logger().info("quiet")
    logging.getLogger("asyncio").info("quiet")
    structlog.get_logger().warning("heard")
    assert "quiet" not in out.getvalue()
    assert out.getvalue().count("heard") == 1


def test_text_is_one_plain_line_per_event_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    log.setup("info", "text", stream=out, node="mini")
    structlog.get_logger().info("joined", rank=1)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert all(part in text for part in ("info", "joined", "node=mini", "rank=1"))


@pytest.mark.parametrize("format", ["text", "json"])
def test_secrets_and_raw_bytes_never_reach_a_line(format: str) -> None:
    out = io.StringIO()
    log.setup("debug", format, stream=out)
    seat = {"ticket": "hush-1", "rank": 0, "card": b"hush-2"}
    structlog.get_logger().info("seat", secret_key="hush-3", frames=[b"hush-4"], seat=seat, body=memoryview(b"hush-5"))
    text = out.getvalue()
    assert "hush" not in text
    assert "<6 bytes>" in text
    assert "hidden" in text


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_is_written_with_its_traceback_but_without_local_variables(format: str) -> None:
    out = io.StringIO()
    log.setup("info", format, stream=out)
    secret = "".join(["hu", "sh"])
    try:
        raise ValueError(f"the cause is {len(secret)} letters long")
    except ValueError:
        structlog.get_logger().exception("engine failed")
    assert "Traceback" in out.getvalue()
    assert "the cause is 4 letters long" in out.getvalue()
    assert "hush" not in out.getvalue()


def test_setting_up_again_replaces_the_first_and_doubles_nothing() -> None:
    first, second = io.StringIO(), io.StringIO()
    log.setup("info", "json", stream=first, node="a")
    log.setup("info", "json", stream=second, node="b")
    structlog.get_logger().info("once")
    assert first.getvalue() == ""
    assert [line["node"] for line in lines(second)] == ["b"]
