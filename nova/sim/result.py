"""What a simulation tells. Times are seconds of the simulated clock."""

from __future__ import annotations

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The value that half, and 99 of 100, of `samples` do not exceed; 0 without any."""

    p50: float
    p99: float
    samples: int


class StageLoad(msgspec.Struct, frozen=True):
    """One stage of the present placement. `busy` is the share of the time since it was formed in which it computed."""

    stage: int
    node: str
    busy: float


class Queue(msgspec.Struct, frozen=True):
    """Requests that have come and have no token yet: over all the time, and at most."""

    mean: float
    most: int


class Lost(msgspec.Struct, frozen=True):
    """A node that died: `chunks` were under way, and `requests` had come and were not over."""

    node: str
    at_s: float
    chunks: int
    requests: int


class SimReport(msgspec.Struct, frozen=True):
    """`seconds` are from the first request to the last token. `tok_s` is that of all requests over that time;
    `ttft_s` is from a request's moment to its first token, `gap_s` between two tokens of one request. `left` counts
    those whose client left them. `chunks` were sent; for `down_s` no group served."""

    stages: int
    requests: int
    left: int
    tokens: int
    seconds: float
    tok_s: float
    ttft_s: Spread
    gap_s: Spread
    queue: Queue
    busy: list[StageLoad]
    chunks: int
    faults: list[Lost] = []
    down_s: float = 0.0
