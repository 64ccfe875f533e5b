"""An engine that runs its rank of a conformance case instead of serving: a transport on its real link, and no model."""

from __future__ import annotations

import os

import msgspec

from nova.engine.control import ControlLine
from nova.engine.form import ControlRendezvous
from nova.testing.run import run_case
from nova.transport.api import Seat
from nova.wire import phases
from nova.wire.messages import EngineState, StartEngine

MAX_REASON_CHARS = 4000
"""Of a broken clause; it crosses the control plane."""


def check(line: ControlLine, start: StartEngine) -> str:
    """Run the case that the spec names and report its result; returns why the engine ends.

    The case runs in phase VERIFY, whose limit the daemon keeps: a rank that is stuck is killed.
    """
    key, spec = start.engine, start.spec
    line.send(EngineState(key, phases.VERIFY, detail=spec.check))
    seat = Seat(key.group, key.generation, key.rank, spec.size, spec.ticket, tuple(spec.hosts))
    result = run_case(spec.check, spec.transport, spec.options, seat, ControlRendezvous(line, key))
    told = msgspec.structs.replace(result, reason=result.reason[:MAX_REASON_CHARS])
    line.send(EngineState(key, phases.READY, os.getpid(), msgspec.json.encode(told).decode()))
    return f"{spec.check} {result.outcome}"
