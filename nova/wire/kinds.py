"""The wire code of every message."""

from __future__ import annotations

from nova.wire import messages as m
from nova.wire import requests as r
from nova.wire.messages import Message

KINDS: dict[int, type[Message]] = {
    1: m.Hello, 2: m.Welcome, 3: m.Refused, 4: m.Heartbeat, 5: m.Goodbye, 6: m.Offers,
    10: m.StartEngine, 11: m.StopEngine, 12: m.EngineState, 13: m.EngineExited, 14: m.Gather, 15: m.Gathered,
    16: m.Begin, 17: m.Cancel, 20: m.Step, 21: m.Pooled, 22: m.Budget, 23: m.Measure, 24: m.Measured,
    30: r.Generate, 31: r.Abandon, 32: r.Accepted, 33: r.Piece, 34: r.Completed, 35: r.Failed,
    36: r.StatusQuery, 37: r.StatusReply, 38: r.ExplainQuery, 39: r.ExplainReply, 40: r.CheckQuery, 41: r.CheckReply,
    42: r.Embedded, 43: r.TraceQuery, 44: r.TraceReply, 45: r.PlanQuery, 46: r.PlanReply,
}  # fmt: skip
"""A code is never used again for another message (18 and 19 were)."""
