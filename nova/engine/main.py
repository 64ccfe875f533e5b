"""The engine process: boot, form, load, serve, end.

One group per engine life: a new generation is a new process, because MLX's own groups cannot be formed twice in
one process and a process that is stuck can be killed without losing anything but itself.

Started by the daemon as `python -m nova.engine`; the first line of standard input says where the daemon listens,
and standard input stays open as the lifeline. Secrets come over the socket, never as arguments.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from nova.engine.control import ControlLine
from nova.engine.failure import PluginCall, described, message, trace
from nova.engine.priority import compute_in_long_runs
from nova.errors import ConfigError, EngineError, FormingFailed, NovaError, TransportError
from nova.log import setup
from nova.wire import phases
from nova.wire.boot import Boot
from nova.wire.messages import EngineState, StartEngine, StopEngine
from nova.wire.values import EngineKey, EngineSpec, LinkMeasure

if TYPE_CHECKING:
    from nova.engine.lanes import Lanes

log = structlog.get_logger(__name__)

SWITCH_S = 0.0005
"""A thread that wants to send or to receive gets the interpreter after this, while another builds a graph. Python's own
5 ms held up a send by 5.1 ms, this one by 0.7 ms (Linux, loopback)."""


def read_boot() -> Boot:
    """Read without buffering ahead, since the rest of standard input is the lifeline."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            raise EngineError("standard input closed before the boot line came")
        line += byte
    return msgspec.json.decode(line, type=Boot)


def serve(line: ControlLine, start: StartEngine, home: str, ending: ExitStack) -> str:
    """From the seat in the group to the last chunk; returns why it was told to stop. `ending` gets the clean-up."""
    if start.spec.check:
        from nova.engine.check import check

        return check(line, start)
    key, spec = start.engine, start.spec
    formed = joined(line, key, spec)
    if formed is not None:
        ending.callback(formed[0].abort)
    links = [formed[1]] if formed is not None else []
    if not spec.layers:
        return trial(line, key, links)
    line.send(EngineState(key, phases.LOAD, links=links))
    # Imported late: mlx_lm takes most of a second, which a transport that does not come up need not cost.
    from nova.engine.link import Limits, Link
    from nova.engine.runner import Runner
    from nova.engine.stages import grammars, load

    stage = load(spec, home, lambda detail: line.send(EngineState(key, phases.LOAD, detail=detail)))
    link = None
    if formed is not None:
        limits = Limits(spec.transfer_s, spec.max_tensor_bytes, key.generation)
        link = Link(formed[0], line.inbox, line.transfers, limits)
        link.start()
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is loaded by now lives as long as the process: a collection of it would cost 20 ms each time
    line.send(ready(key, spec, stage))
    return Runner(key, spec, stage, link, line, grammars(spec, home)).run()


def joined(line: ControlLine, key: EngineKey, spec: EngineSpec) -> tuple[Lanes, LinkMeasure] | None:
    """As `form`; whatever else a plugin raises, SystemExit included, is a FormingFailed in the phase it came from."""
    from nova.engine.form import form

    def fault(said: str) -> FormingFailed:
        return FormingFailed(line.phase, spec.transport, key.rank, f"it raised {said}")

    with PluginCall(fault, passes=(TransportError, ConfigError)):
        return form(line, key, spec)


def trial(line: ControlLine, key: EngineKey, links: list[LinkMeasure]) -> str:
    """The group stands, and that was the question: say so, and wait for the others to be told as well."""
    line.send(EngineState(key, phases.READY, os.getpid(), "trial", links=links))
    while not isinstance(stop := line.inbox.get(), StopEngine):
        log.warning("a trial takes no chunks", message=type(stop).__name__)
    return stop.reason


def ready(key: EngineKey, spec: EngineSpec, stage: Any) -> EngineState:
    import psutil

    from nova.engine.kv import cost

    resident = psutil.Process().memory_info().rss
    return EngineState(key, phases.READY, os.getpid(), "", stage.weight_bytes, resident, kv=cost(stage, spec))


def run(line: ControlLine, home: str) -> int:
    """Wait for the seat, serve, and report a failure before the process ends."""
    start = line.inbox.get()
    if not isinstance(start, StartEngine):
        log.info("engine ends before its start", message=type(start).__name__)
        return 0
    line.send(EngineState(start.engine, phases.BOOT, os.getpid()))
    with ExitStack() as ending:  # after the report: a group that hangs in its abort must not hold that up
        try:
            log.info("engine stopped", reason=serve(line, start, home, ending))
            return 0
        except BaseException as error:  # noqa: BLE001  the process edge: tell the daemon, log it and end
            line.send(EngineState(start.engine, phases.FAILED, os.getpid(), message(error), error=type(error).__name__))
            if isinstance(error, NovaError):
                log.error("engine failed", error=described(error))
            else:
                log.error("engine crashed", error=described(error), exception=trace(error))
            return 1


def main() -> int:
    # A crash in native code says where it was before it ends; SIGUSR1 makes an engine that hangs do the same. The
    # handlers are C: they run while a plugin holds the GIL, and nothing of the plugin runs after them.
    faulthandler.enable()
    compute_in_long_runs()
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler in Python would wait for the GIL
    boot = read_boot()
    setup(boot.log_level, boot.log_format, node=boot.node, engine=boot.engine)
    line = ControlLine(boot.endpoint, bytes.fromhex(boot.identity), boot.heartbeat_s)
    line.start()
    try:
        return run(line, boot.home)
    finally:
        line.close()
