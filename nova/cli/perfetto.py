"""A request's chunks as a timeline in the Trace Event Format, which Perfetto and Chrome's tracing page read. Pure.

A process is a node, its thread 0 to S-1 the stage's computing. What can overlap - chunks that wait for a stage, chunks
that travel - is laid on as many threads below it as are needed, so that the slices of a thread never overlap. A flow
arrow follows each chunk from stage to stage. Process 0 holds one thread per request.

All times of the file are microseconds of one clock, from the first event on; `offsets_ns` brings the clocks of the
nodes together, which is exact to about half a round trip. So a hop that seems to end before it began takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from nova.wire.requests import TraceReply
from nova.wire.work import ChunkTiming

Event = dict[str, Any]

REQUESTS = 0
"""The process of the requests; node i is process i + 1."""
WAITING = 100
"""First thread for chunks that wait at a stage; those on their way are a hundred further."""
TRAVELLING = 200
LANES = 100
"""More threads of a kind than this are not opened: the last one is then shortened where it would overlap."""


@dataclass(frozen=True)
class Passage:
    """A chunk at one stage, in nanoseconds of the common clock: received, computing from `start` to `end`."""

    received: int
    start: int
    end: int


@dataclass(frozen=True)
class Slice:
    start: int
    end: int
    name: str
    args: Event


def passages(reply: TraceReply) -> list[list[Passage]]:
    """Per chunk its passage through each stage. A stage computes one chunk at a time, so what rounding makes overlap
    there is cut."""
    free = [0] * len(reply.nodes)
    found = []
    for chunk in reply.chunks:
        row = []
        for stage, (received_ns, waited_us, compute_us) in enumerate(chunk.hops[: len(free)]):
            received = received_ns - reply.offsets_ns[stage]
            start = max(received + waited_us * 1000, free[stage])
            end = max(received + (waited_us + compute_us) * 1000, start)
            free[stage] = end
            row.append(Passage(received, start, end))
        found.append(row)
    return found


def busy(reply: TraceReply) -> tuple[float, list[float]]:
    """How long the traced request took (s), from its first chunk to its last token, and which share of that time each
    stage computed, for whichever request. 0.0 and nothing without a chunk of it."""
    own = [chunk for chunk in reply.chunks if _holds(chunk, reply.streams.get(reply.target))]
    if not own or not reply.nodes:
        return 0.0, []
    offset = reply.offsets_ns[-1]
    first, last = min(chunk.sent_ns for chunk in own) - offset, max(chunk.done_ns for chunk in own) - offset
    sums = [0] * len(reply.nodes)
    for row in passages(reply):
        for stage, passage in enumerate(row):
            sums[stage] += max(0, min(passage.end, last) - max(passage.start, first))
    whole = max(1, last - first)
    return whole / 1e9, [total / whole for total in sums]


def timeline(reply: TraceReply) -> Event:
    """The whole file, ready for JSON."""
    slices = _tracks(reply)
    origin = min((one.start for track in slices.values() for one in track), default=0)
    events = [
        {
            "ph": "X", "pid": pid, "tid": tid, "name": one.name, "cat": "chunk", "ts": (one.start - origin) / 1000,
            "dur": (one.end - one.start) / 1000, "args": one.args,
        }
        for (pid, tid), track in slices.items()
        for one in track
    ]  # fmt: skip
    arrows = list(_arrows(reply, origin))
    facts = {"request": reply.target, "transport": reply.transport, "stages": len(reply.nodes)}
    return {"traceEvents": [*_names(reply, slices), *events, *arrows], "displayTimeUnit": "ms", "otherData": facts}


def _tracks(reply: TraceReply) -> dict[tuple[int, int], list[Slice]]:
    """Process and thread to its slices, oldest first, none of which overlap."""
    tracks: dict[tuple[int, int], list[Slice]] = {}
    waits: dict[int, list[Slice]] = {}
    trips: dict[int, list[Slice]] = {}
    requests: dict[int, list[tuple[ChunkTiming, Event]]] = {}
    names = {stream: request for request, stream in reply.streams.items()}
    back = reply.offsets_ns[-1] if reply.offsets_ns else 0
    for chunk, row in zip(reply.chunks, passages(reply), strict=True):
        name, args = _title(chunk), _args(chunk, names)
        leaves = chunk.sent_ns - back
        for stream, _ in chunk.rows:
            requests.setdefault(stream, []).append((chunk, args))
        for stage, passage in enumerate(row):
            sender = (stage or len(row)) - 1
            way = f"to stage {stage}" if stage else "tokens to stage 0"
            trips.setdefault(sender, []).append(Slice(leaves, max(leaves, passage.received), way, args))
            waits.setdefault(stage, []).append(Slice(passage.received, passage.start, "waits", args))
            tracks.setdefault((stage + 1, stage), []).append(Slice(passage.start, passage.end, name, args))
            leaves = passage.end
        if row:  # what follows the last stage's computing is the driver's
            done = max(leaves, chunk.done_ns - back)
            waits[len(row) - 1].append(Slice(leaves, done, "driver", args))
    for first, kind in ((WAITING, waits), (TRAVELLING, trips)):
        for stage, found in kind.items():
            for lane, track in enumerate(_lanes(found)):
                tracks[stage + 1, first + lane] = track
    for stream, chunks in requests.items():
        if stream in names:
            tracks[REQUESTS, stream] = _request(names[stream], chunks, back)
    return tracks


def _request(request: str, own: Sequence[tuple[ChunkTiming, Event]], back: int) -> list[Slice]:
    """Reading the prompt, then one slice for each step that follows; `own` are its chunks and what is told of them."""
    steps = [(chunk, args) for chunk, args in own if not chunk.prefill]
    start = min(chunk.sent_ns for chunk, _ in own) - back
    end = max(start, (steps or own[-1:])[0][0].done_ns - back)
    found = [Slice(start, end, "prompt", {"request": request})]
    for step, args in steps[1:]:
        done = max(end, step.done_ns - back)
        found.append(Slice(end, done, "step", args))
        end = done
    return found


def _lanes(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Each on the first thread that is free again, but for those that take no time."""
    lanes: list[list[Slice]] = []
    for one in sorted((each for each in slices if each.end > each.start), key=lambda each: (each.start, each.end)):
        lane = next((lane for lane in lanes if lane[-1].end <= one.start), None)
        if lane is not None:
            lane.append(one)
        elif len(lanes) < LANES:
            lanes.append([one])
        elif one.end > (free := lanes[-1][-1].end):
            lanes[-1].append(Slice(free, one.end, one.name, one.args))
    return lanes


def _arrows(reply: TraceReply, origin: int) -> Iterator[Event]:
    """From a chunk's computing at one stage to that at the next: a flow from the middle of one slice to the next."""
    for number, row in enumerate(passages(reply)):
        for stage, (here, there) in enumerate(pairwise(row)):
            flow = {"cat": "hop", "name": "hop", "id": number * len(row) + stage}
            yield {"ph": "s", **flow, "pid": stage + 1, "tid": stage, "ts": _middle(here, origin)}
            yield {"ph": "f", "bp": "e", **flow, "pid": stage + 2, "tid": stage + 1, "ts": _middle(there, origin)}


def _names(reply: TraceReply, tracks: dict[tuple[int, int], list[Slice]]) -> Iterator[Event]:
    """Processes and threads by their names, in the order of the stages."""
    streams = {stream: request for request, stream in reply.streams.items()}
    processes = {REQUESTS: "requests"} | {stage + 1: node for stage, node in enumerate(reply.nodes)}
    for pid, name in processes.items():
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": {"name": name}}
        yield {"ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": {"sort_index": pid}}
    for pid, tid in sorted(tracks):
        if pid == REQUESTS:
            name = streams[tid]
        elif tid < WAITING:
            name = f"stage {tid}"
        else:
            name = "waiting" if tid < TRAVELLING else "on the way"
        yield {"ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": {"name": name}}


def _title(chunk: ChunkTiming) -> str:
    rows = len(chunk.rows)
    return f"prefill {rows * chunk.width}" if chunk.prefill else f"decode {rows} x {chunk.width}"


def _args(chunk: ChunkTiming, names: dict[int, str]) -> Event:
    rows = [{"stream": stream, "request": names.get(stream, ""), "position": at} for stream, at in chunk.rows]
    return {"rows": rows, "width": chunk.width, "prefill": chunk.prefill, "bytes": chunk.nbytes}


def _holds(chunk: ChunkTiming, stream: int | None) -> bool:
    return any(row[0] == stream for row in chunk.rows)


def _middle(passage: Passage, origin: int) -> float:
    return ((passage.start + passage.end) // 2 - origin) / 1000
