"""The engine process: boot, form, load, serve, end.

One group per engine life: a new generation is a new process, because MLX's own groups cannot be formed twice in
one process and a process that is stuck can be killed without losing anything but itself.

Started by the daemon as `python -m nova.engine`; the first line of standard input says where the daemon listens,
and standard input stays open as the lifeline. Secrets come over the socket, never as arguments.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import msgspec
import structlog

from nova.engine.control import ControlLine
from nova.errors import EngineError, NovaError
from nova.log import setup
from nova.wire import phases
from nova.wire.boot import Boot
from nova.wire.messages import EngineState, StartEngine
from nova.wire.values import EngineKey, EngineSpec

log = structlog.get_logger(__name__)


def read_boot() -> Boot:
    """Read without buffering ahead, since the rest of standard input is the lifeline."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise EngineError("standard input closed before the boot line came")
        line += byte
    return msgspec.json.decode(line, type=Boot)


def serve(line: ControlLine, start: StartEngine, home: str) -> str:
    """From the seat in the group to the last chunk; returns why it was told to stop."""
    # Imported late: importing MLX takes most of a second, in which the daemon already hears our heartbeat.
    from nova.engine.form import form
    from nova.engine.link import Limits, Link
    from nova.engine.runner import Runner
    from nova.engine.stages import load

    key, spec = start.engine, start.spec
    formed = form(line, key, spec)
    line.send(EngineState(key, phases.LOAD, links=[formed[1]] if formed is not None else []))
    stage = load(spec, home, lambda detail: line.send(EngineState(key, phases.LOAD, detail=detail)))
    link = None
    if formed is not None:
        limits = Limits(spec.transfer_s, spec.max_tensor_bytes, key.generation)
        link = Link(formed[0], line.inbox, line.transfers, limits)
        link.start()
    gc.freeze()  # what is loaded by now lives as long as the process: a collection of it would cost 20 ms each time
    line.send(ready(key, spec, stage))
    try:
        return Runner(key, spec, stage, link, line).run()
    finally:
        if formed is not None:
            formed[0].abort()


def ready(key: EngineKey, spec: EngineSpec, stage: Any) -> EngineState:
    import psutil

    resident = psutil.Process().memory_info().rss
    return EngineState(key, phases.READY, os.getpid(), "", stage.weight_bytes, resident)


def run(line: ControlLine, home: str) -> int:
    """Wait for the seat, serve, and report a failure before the process ends."""
    message = line.inbox.get()
    if not isinstance(message, StartEngine):
        log.info("engine ends before its start", message=type(message).__name__)
        return 0
    line.send(EngineState(message.engine, phases.BOOT, os.getpid()))
    try:
        log.info("engine stopped", reason=serve(line, message, home))
        return 0
    except Exception as error:  # the process edge: whatever it was, tell the daemon, log it and end
        if isinstance(error, NovaError):
            log.error("engine failed", error=f"{type(error).__name__}: {error}")
        else:
            log.exception("engine crashed")
        detail = str(error) or type(error).__name__
        line.send(EngineState(message.engine, phases.FAILED, os.getpid(), detail, error=type(error).__name__))
        return 1


def main() -> int:
    boot = read_boot()
    setup(boot.log_level, boot.log_format, node=boot.node, engine=boot.engine)
    line = ControlLine(boot.endpoint, bytes.fromhex(boot.identity), boot.heartbeat_s)
    line.start()
    try:
        return run(line, boot.home)
    finally:
        line.close()
