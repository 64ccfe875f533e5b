"""The chunks of a request, and those that crossed the stages with it; bounded, and never more than a message holds."""

from __future__ import annotations

import msgspec
import pytest

from nova.coordinator import trace as module
from nova.coordinator.trace import CHUNKS, REQUESTS, Found, Trace
from nova.wire.codec import MAX_BODY_BYTES
from nova.wire.requests import TraceReply
from nova.wire.work import ChunkTiming

NODES = ["a", "b"]


def chunk(sent: int, *streams: int, done: int = 0) -> ChunkTiming:
    rows = [(stream, sent) for stream in streams]
    return ChunkTiming(rows, 1, False, sent, done or sent + 1, [(sent, 0, 1), (sent, 0, 1)], 16)


def found(trace: Trace, target: str = "") -> TraceReply:
    what = trace.find(target)
    assert isinstance(what, Found)
    return what.reply("q", [0, 5])


def two() -> Trace:
    """Request x from 10 to 31, y from 20 to 51, and a chunk before and after."""
    trace = Trace()
    trace.begun("x", 1, 1, "tcp", NODES)
    trace.begun("y", 2, 1, "tcp", NODES)
    for sent, streams in ((5, [7]), (10, [1]), (20, [1, 2]), (30, [1]), (40, [2]), (50, [2]), (60, [7])):
        trace.saw(1, chunk(sent, *streams))
    trace.ended(1)
    trace.ended(2)
    return trace


def test_a_request_s_chunks_come_with_those_that_crossed_meanwhile_oldest_first() -> None:
    reply = found(two(), "x")
    assert [each.sent_ns for each in reply.chunks] == [10, 20, 30]
    assert (reply.request, reply.target, reply.nodes, reply.offsets_ns, reply.transport) == (
        "q", "x", ["a", "b"], [0, 5], "tcp",
    )  # fmt: skip
    assert reply.streams == {"x": 1, "y": 2}
    assert reply.chunks[1] == chunk(20, 1, 2)


def test_without_a_name_it_is_the_request_that_ended_last() -> None:
    assert found(two()).target == "y"
    assert Trace().find("") == "no request has ended yet"


def test_a_chunk_that_was_under_way_when_the_request_began_crossed_with_it() -> None:
    trace = Trace()
    trace.begun("x", 1, 1, "tcp", NODES)
    trace.saw(1, chunk(5, 7, done=15))
    trace.saw(1, chunk(10, 1, done=20))
    assert [each.sent_ns for each in found(trace, "x").chunks] == [5, 10]


def test_a_name_that_was_used_again_is_the_newest_and_an_unknown_one_is_said() -> None:
    trace = two()
    trace.begun("x", 9, 1, "tcp", NODES)
    assert "nothing is kept of request 'x'" in str(trace.find("x")), "no chunk of it has come back"
    trace.saw(1, chunk(70, 9))
    assert found(trace, "x").streams == {"x": 9}
    assert "nothing is kept of request 'z'" in str(trace.find("z"))


def test_chunks_of_another_generation_are_none_of_its() -> None:
    trace = Trace()
    trace.begun("x", 1, 2, "zmq", NODES)
    trace.saw(1, chunk(10, 1))
    trace.saw(2, chunk(10, 1))
    reply = found(trace, "x")
    assert (len(reply.chunks), reply.transport) == (1, "zmq")


def test_what_is_kept_is_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = Trace()
    for number in range(REQUESTS + 1):
        trace.begun(f"r{number}", number, 1, "tcp", NODES)
    assert "nothing is kept of request 'r0'" in str(trace.find("r0"))
    assert CHUNKS == 50_000
    monkeypatch.setattr(module, "CHUNKS", 10)
    for sent in range(1, 30):
        trace.saw(1, chunk(sent, 1))
    assert [each.sent_ns for each in found(trace, "r1").chunks] == list(range(20, 30))
    monkeypatch.setattr(module, "CHUNK_BYTES", 5_000)
    for sent in range(30, 60):
        trace.saw(1, chunk(sent, *range(1, 251)))
    assert len(found(trace, "r1").chunks) < 10
    assert trace._bytes == sum(len(each.chunk) for each in trace._chunks) <= 5_000


def test_an_answer_that_would_not_fit_a_message_is_cut_to_the_newest_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLY_BYTES", 2000)
    trace = Trace()
    trace.begun("x", 1, 1, "tcp", NODES)
    for sent in range(1, 500):
        trace.saw(1, chunk(sent, 1))
    reply = found(trace, "x")
    assert reply.chunks[-1].sent_ns == 499
    assert reply.omitted == 499 - len(reply.chunks)
    assert 1900 < sum(len(msgspec.msgpack.encode(each)) for each in reply.chunks) <= 2000


def test_the_longest_answer_fits_a_message() -> None:
    trace = Trace()
    for number in range(REQUESTS):
        trace.begun("r" * 195 + f"{number:5}", number, 1, "tcp", [f"node-{i}" for i in range(16)])
    hops = [(1 << 62, 1 << 31, 1 << 31)] * 16
    for sent in range(2000):
        rows = [((sent * 250 + row) % REQUESTS, 1 << 19) for row in range(250)]
        trace.saw(1, ChunkTiming(rows, 1, False, sent + 1, sent + 2, hops, 1 << 30))
    assert trace._bytes > MAX_BODY_BYTES
    what = trace.find("r" * 195 + f"{7:5}")
    assert isinstance(what, Found)
    reply = what.reply("q" * 200, [1 << 62] * 16)
    assert len(reply.streams) == REQUESTS
    assert 0.8 * MAX_BODY_BYTES < len(msgspec.msgpack.encode(reply)) <= MAX_BODY_BYTES


def test_a_request_keeps_the_nodes_that_it_ran_on_when_the_layers_have_moved() -> None:
    trace = two()
    trace.begun("z", 3, 2, "none", ["b"])
    trace.saw(2, ChunkTiming([(3, 9)], 1, False, 70, 71, [(70, 0, 1)]))
    trace.ended(3)
    for name, nodes in (("x", NODES), ("z", ["b"])):
        what = trace.find(name)
        assert isinstance(what, Found)
        assert what.nodes == nodes
