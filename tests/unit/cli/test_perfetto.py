"""The timeline of a trace, held to the rules of the Trace Event Format and to the times that it was made from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.cli import perfetto
from nova.cli.perfetto import TRAVELLING, WAITING, busy, timeline
from nova.cli.trace import file_name, request_of, summary, write
from nova.errors import ConfigError
from nova.wire.requests import TraceReply
from nova.wire.work import ChunkTiming

MS = 10**6
ROUNDING_US = 1e-3


def reply(chunks: list[ChunkTiming], offsets_ns: list[int], streams: dict[str, int], target: str = "r1") -> TraceReply:
    nodes = [f"node-{stage}" for stage in range(len(offsets_ns))]
    return TraceReply("q", target, nodes, offsets_ns, "tcp", streams, chunks)


def chunk(
    rows: list[tuple[int, int]], sent: int, hops: list[tuple[int, int, int]], done: int, prefill: bool = False
) -> ChunkTiming:
    """Times in ms of the common clock, hops as received, waited, compute."""
    width = 8 if prefill else 1
    stages = [(received * MS, waited * 1000, compute * 1000) for received, waited, compute in hops]
    return ChunkTiming(rows, width, prefill, sent * MS, done * MS, stages, nbytes=512)


TWO = reply(
    [
        chunk([(7, 0)], 1000, [(1001, 0, 9), (1012, 0, 20)], 1032, prefill=True),
        chunk([(7, 8), (8, 3)], 1002, [(1003, 7, 10), (1021, 11, 20)], 1053),
        chunk([(7, 9)], 1053, [(1054, 0, 10), (1065, 0, 20)], 1086),
    ],
    [0, 0],
    {"r1": 7, "r2": 8},
)
"""Two stages, the second the slower one; its second chunk waits for it."""


def slices(events: list[dict[str, Any]], name: str) -> list[tuple[int, int, float, float]]:
    return [(e["pid"], e["tid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and e["name"] == name]


def test_each_chunk_is_where_and_when_it_was_computed() -> None:
    events = timeline(TWO)["traceEvents"]
    assert slices(events, "prefill 8") == [(1, 0, 1000.0, 9000.0), (2, 1, 12000.0, 20000.0)]
    assert slices(events, "decode 2 x 1") == [(1, 0, 10000.0, 10000.0), (2, 1, 32000.0, 20000.0)]
    assert slices(events, "decode 1 x 1") == [(1, 0, 54000.0, 10000.0), (2, 1, 65000.0, 20000.0)]
    (wait,) = [one for one in slices(events, "waits") if one[0] == 2]
    assert wait == (2, WAITING, 21000.0, 11000.0)
    assert (2, TRAVELLING, 53000.0, 1000.0) in slices(events, "tokens to stage 0")
    assert slices(events, "to stage 1") == [
        (1, TRAVELLING, at, ms) for at, ms in ((10000.0, 2000.0), (20000.0, 1000.0), (64000.0, 1000.0))
    ]
    args = next(e["args"] for e in events if e["ph"] == "X" and e["name"] == "decode 2 x 1")
    assert args["rows"] == [
        {"stream": 7, "request": "r1", "position": 8},
        {"stream": 8, "request": "r2", "position": 3},
    ]
    assert (args["width"], args["prefill"], args["bytes"]) == (1, False, 512)


def test_a_request_has_a_track_of_its_own() -> None:
    events = timeline(TWO)["traceEvents"]
    own = [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == (0, 7)]
    assert own == [("prompt", 0.0, 53000.0), ("step", 53000.0, 33000.0)]
    assert {e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 0} == {"r1", "r2"}


def test_clocks_of_different_machines_are_brought_together() -> None:
    ahead = [
        ChunkTiming(
            one.rows, one.width, one.prefill, one.sent_ns + 5 * MS, one.done_ns + 5 * MS,
            [(one.hops[0][0] - 3 * MS, *one.hops[0][1:]), (one.hops[1][0] + 5 * MS, *one.hops[1][1:])], one.nbytes,
        )
        for one in TWO.chunks
    ]  # fmt: skip
    assert timeline(reply(ahead, [-3 * MS, 5 * MS], TWO.streams)) == timeline(TWO)


def test_the_bottleneck_is_the_stage_that_computed_longest(tmp_path: Path) -> None:
    seconds, shares = busy(TWO)
    assert seconds == pytest.approx(0.086)
    assert shares == [pytest.approx(29 / 86), pytest.approx(60 / 86)]
    assert summary(TWO, tmp_path).bottleneck == 1
    # Of another request's chunks only what falls into this one's time counts.
    assert busy(reply(TWO.chunks, [0, 0], TWO.streams, "r2"))[1] == [pytest.approx(18 / 51), pytest.approx(40 / 51)]
    assert busy(reply(TWO.chunks, [0, 0], {}, "r3")) == (0.0, [])
    assert summary(reply([], [], {}), tmp_path).bottleneck == -1


@st.composite
def replies(draw: st.DrawFn) -> TraceReply:
    """Anything that peers with wrong clocks could have sent."""
    stages, streams = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    times, spans = st.integers(0, 50), st.integers(0, 9)
    rows = st.lists(st.tuples(st.integers(0, streams), st.integers(0, 99)), min_size=1, max_size=4)
    hops = st.lists(st.tuples(times, spans, spans), min_size=stages, max_size=stages)
    chunks = draw(st.lists(st.builds(chunk, rows, times, hops, times, st.booleans()), max_size=12))
    offsets = draw(st.lists(st.integers(-3 * MS, 3 * MS), min_size=stages, max_size=stages))
    return reply(chunks, offsets, {f"r{stream}": stream for stream in range(1, streams + 1)})


def tracks(events: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    found = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            found[event["pid"], event["tid"]].append(event)
    yield from found.values()


@given(replies())
def test_every_file_follows_the_rules_of_the_format(traced: TraceReply) -> None:
    events = json.loads(json.dumps(timeline(traced), allow_nan=False))["traceEvents"]
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    flows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        assert event["ph"] in {"X", "M", "s", "f"}
        assert isinstance(event["name"], str)
        assert {"pid", "tid"} <= set(event)
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            assert (event["pid"], event["tid"]) in named
        elif event["ph"] in "sf":
            flows[event["id"]].append(event)
    for track in tracks(events):  # in order, and one after the other
        for before, after in pairwise(track):
            assert before["ts"] + before["dur"] <= after["ts"] + ROUNDING_US
    computing = [e for e in events if e["ph"] == "X" and e["pid"] and e["tid"] < WAITING]
    assert len(computing) == len(traced.chunks) * len(traced.nodes)
    for start, finish in flows.values():
        assert (start["ph"], finish["ph"], finish["bp"]) == ("s", "f", "e")
        for end in (start, finish):  # within a slice, or a viewer drops the arrow
            at = (end["pid"], end["tid"])
            assert any(
                e["ts"] - ROUNDING_US <= end["ts"] <= e["ts"] + e["dur"] + ROUNDING_US
                for e in computing
                if (e["pid"], e["tid"]) == at
            )
    assert len(flows) == len(traced.chunks) * (len(traced.nodes) - 1)


def test_what_has_no_thread_left_is_cut_and_put_on_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfetto, "LANES", 2)
    crowd = [chunk([(1, at)], 1000, [(1001, 10 * at, 5)], 1200) for at in range(1, 6)]
    events = timeline(reply(crowd, [0], {"r1": 1}))["traceEvents"]
    waits = [e for e in events if e["ph"] == "X" and e["name"] == "waits"]
    assert [(e["ts"], e["dur"]) for e in waits if e["tid"] == WAITING + 1] == [
        (1000.0, 20000.0),
        (21000.0, 10000.0),
        (31000.0, 10000.0),
        (41000.0, 10000.0),
    ]
    assert {e["tid"] for e in waits} == {WAITING, WAITING + 1}


@pytest.mark.parametrize("name", ["chatcmpl-07514c4f2f11e4d6", "msg_07514c4f2f11e4d6", "07514c4f2f11e4d6"])
def test_an_answer_of_the_api_names_its_request(name: str) -> None:
    assert request_of(name) == "07514c4f2f11e4d6"


@pytest.mark.parametrize("request_id", ["r-1", "../../etc/passwd", "a b/c", "x" * 500, ""])
def test_the_default_name_stays_in_the_folder(request_id: str) -> None:
    name = file_name(request_id)
    assert Path(name).name == name
    assert name.startswith("nova-trace-")
    assert name.endswith(".json")
    assert len(name) < 150


def test_a_file_that_is_there_is_only_replaced_when_told_so(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    write(path, b"1", force=False)
    with pytest.raises(ConfigError, match="exists: --force replaces it"):
        write(path, b"2", force=False)
    assert path.read_bytes() == b"1"
    write(path, b"3", force=True)
    assert path.read_bytes() == b"3"
    with pytest.raises(ConfigError, match="cannot be written"):
        write(tmp_path / "no folder" / "x", b"", force=False)
