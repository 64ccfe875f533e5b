"""What a node does for its coordinator: run engines, and pass on what engines and coordinator say to each other."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from nova import __version__
from nova.config.schema import NodeConfig
from nova.errors import EngineError, NodeLost, NovaError
from nova.node.blas import Blas, choose, engine_environment
from nova.node.facts import gather
from nova.node.ipc import EngineLines
from nova.node.process import EngineProcess
from nova.node.profiling import profile
from nova.wire.boot import Boot
from nova.wire.messages import (
    Begin,
    Budget,
    Cancel,
    EngineExited,
    EngineState,
    Gather,
    Gathered,
    Heartbeat,
    Hello,
    Measure,
    Measured,
    Message,
    Offers,
    Pooled,
    StartEngine,
    Step,
    StopEngine,
    Welcome,
)
from nova.wire.phases import READY
from nova.wire.plans import NodeProfile
from nova.wire.values import EngineKey, EngineSpec, TransportOffer

log = structlog.get_logger(__name__)

ENGINE_HEARTBEAT_S = 0.5


Profile = Callable[[str, NodeConfig, Path], Awaitable[NodeProfile]]


class NodeAgent:
    """Handler of the spoke's session, and owner of this node's engines. `send` goes to the coordinator; `profile` says
    what this node can do with a model, and raises NovaError."""

    def __init__(self, config: NodeConfig, home: Path, profile: Profile = profile) -> None:
        self.send: Callable[[Message], None] = _no_session
        self._config = config
        self._home = home
        self._offers: list[TransportOffer] = []
        self._told: list[TransportOffer] = []  # what the coordinator knows, or hears with the session's first message
        self._facts = gather()
        self._lines = EngineLines(self._from_engine)
        self._engines: dict[bytes, EngineProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._profile = profile
        self._one = asyncio.Lock()
        """Two measurements at once would measure each other."""
        self._measuring: set[asyncio.Task[None]] = set()
        self._blas: Blas = choose(config.engine.cpu_blas)
        if self._blas.advice:
            log.warning(self._blas.advice)

    @property
    def endpoint(self) -> str:
        """Where the engines' socket is."""
        return self._lines.endpoint

    def hello(self) -> Hello:
        self._told = self._offers
        return Hello(self._config.name, "worker", __version__, self._facts, self._offers)

    def offer(self, offers: list[TransportOffer]) -> None:
        """From here on this node offers these transports; the coordinator hears of a change."""
        known = {offer.name: offer.unavailable for offer in self._offers}
        for offer in offers:
            if offer.unavailable is not None and offer.unavailable != known.get(offer.name):
                log.warning("transport cannot be offered", transport=offer.name, reason=offer.unavailable)
            elif offer.unavailable is None and known.get(offer.name) is not None:
                log.info("transport can be offered", transport=offer.name)
        self._offers = offers
        self._tell_offers()

    async def run(self) -> None:
        """Listen to engines until cancelled."""
        await self._lines.run()

    async def close(self) -> None:
        """End all engines, by force where they do not follow; afterwards none is left. Idempotent."""
        for engine in self._engines.values():
            self._stop(engine, "the daemon ends")
        for task in self._measuring:
            task.cancel()
        await asyncio.gather(*self._measuring, return_exceptions=True)
        if self._tasks:
            # Stop, SIGTERM and SIGKILL follow each other within this time; supervise() sees to it.
            await asyncio.wait(self._tasks, timeout=2 * self._config.engine.stop_s + 1.0)
        for engine in self._engines.values():
            engine.kill("the daemon ends")
        self._lines.close()

    # --- from the coordinator ---------------------------------------------------------------------------------------

    def welcomed(self, welcome: Welcome) -> None:
        """A coordinator that does not know our engines starts afresh, so whatever still runs here is of no use."""
        log.info("joined", coordinator=welcome.coordinator)
        for engine in self._engines.values():
            self._stop(engine, "the session with the coordinator began anew")
        self._tell_offers()  # they may have changed since the hello

    def lost(self, why: str) -> None:
        log.debug("no session", reason=why)  # the spoke says so itself, once for each reason

    def received(self, message: Message) -> None:
        match message:
            case StartEngine():
                self._start(message)
            case StopEngine(engine=key):
                if (engine := self._find(key)) is not None:
                    self._stop(engine, message.reason)
                else:  # the coordinator waits for its end
                    self._report(EngineExited(key, 0, True, "no such engine runs here", ""))
            case Measure():
                task = asyncio.create_task(self._measure(message))
                self._measuring.add(task)
                task.add_done_callback(self._measuring.discard)
            case Gathered(engine=key) | Begin(engine=key) | Cancel(engine=key) | Budget(engine=key):
                self._to_engine(key, message)
            case other:
                log.warning("message for a coordinator dropped", kind=type(other).__name__)

    def _start(self, start: StartEngine) -> None:
        if self._find(start.engine) is not None:
            log.warning("engine is running already", engine=_label(start.engine))
            return
        engine = EngineProcess(start.engine, self._own(start.spec), self._config.engine, self._lines.admit())
        self._engines[engine.identity] = engine
        task = asyncio.create_task(self._life(engine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _measure(self, measure: Measure) -> None:
        try:
            async with self._one:
                answer = Measured(measure.request, await self._profile(measure.model, self._config, self._home))
        except NovaError as error:
            log.warning("not measured", model=measure.model, reason=str(error))
            answer = Measured(measure.request, reason=str(error))
        self._report(answer)

    def _own(self, spec: EngineSpec) -> EngineSpec:
        """The coordinator says what to run; where and how this machine does it is its own configuration's."""
        options, limits = self._config.transport.options, self._config.engine
        return msgspec.structs.replace(
            spec,
            hosts=self._offered(spec.transport, spec.hosts),
            side_hosts=self._offered(spec.side, spec.side_hosts),
            options={**spec.options, **options.get(spec.transport, {})},
            side_options={**spec.side_options, **options.get(spec.side, {})},
            load_s=limits.load_s,
            max_tensor_bytes=min(spec.max_tensor_bytes, limits.max_tensor_bytes),
        )

    def _offered(self, transport: str, hosts: list[str]) -> list[str]:
        """The addresses that this node offered for a transport: its engines listen on no other."""
        ours = {each.address for offer in self._offers if offer.name == transport for each in offer.attachments}
        return [host for host in hosts if host in ours]

    async def _life(self, engine: EngineProcess) -> None:
        """One engine from spawn to exit, and the report of it."""
        boot = Boot(
            self._lines.endpoint, engine.identity.hex(), ENGINE_HEARTBEAT_S, str(self._home), self._config.name,
            _label(engine.key), self._config.log.level, self._config.log.format,
        )  # fmt: skip
        suspect = False
        scratch = self._lines.scratch()
        ours = self._config.engine
        env = engine_environment(self._blas, ours.threads or len(ours.cpus), {**os.environ, "TMPDIR": str(scratch)})
        try:
            await engine.spawn(boot, env)
            status = await engine.supervise()
            reason, suspect = engine.why(status), engine.is_suspect(status)
        except (OSError, EngineError) as error:
            reason = f"could not be started: {error}"
        finally:
            self._lines.forget(engine.identity)
            self._engines.pop(engine.identity, None)
            shutil.rmtree(scratch, ignore_errors=True)  # what a library, or a killed plugin, has left there
        asked = engine.watch.stop_asked is not None
        log.info("engine ended", engine=_label(engine.key), pid=engine.pid, reason=reason, asked=asked)
        tail = [] if asked else list(engine.tail)
        phase, failure = engine.watch.phase, engine.error
        self._report(EngineExited(engine.key, engine.pid, asked, reason, phase, failure, tail, suspect))

    def _stop(self, engine: EngineProcess, reason: str) -> None:
        engine.stop()
        try:
            self._lines.send(engine.identity, StopEngine(engine.key, reason))
        except EngineError:
            engine.kill(reason)  # it has not connected yet, or hangs: nothing to lose

    def _to_engine(self, key: EngineKey, message: Message) -> None:
        engine = self._find(key)
        if engine is None:
            log.info("message for an engine that is gone dropped", engine=_label(key), kind=type(message).__name__)
            return
        try:
            self._lines.send(engine.identity, message)
        except EngineError as error:
            engine.kill(str(error))

    # --- from an engine ---------------------------------------------------------------------------------------------

    def _from_engine(self, identity: bytes, message: Message) -> None:
        engine = self._engines.get(identity)
        if engine is None:
            return
        engine.on_message(message)
        if not engine.connected:
            engine.connected = True
            self._to_engine(engine.key, StartEngine(engine.key, engine.spec))  # which may have died already
        match message:
            case Heartbeat():
                return
            case EngineState(engine=key) | Gather(engine=key) | Step(engine=key) | Pooled(engine=key):
                if key == engine.key:
                    self._report(message)
                if isinstance(message, EngineState) and message.phase == READY:
                    log.info("engine ready", engine=_label(key), weight_mib=message.weight_bytes >> 20)
            case other:
                log.warning("message that engines do not send dropped", kind=type(other).__name__)

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _find(self, key: EngineKey) -> EngineProcess | None:
        return next((engine for engine in self._engines.values() if engine.key == key), None)

    def _tell_offers(self) -> None:
        if self._told == self._offers:
            return
        try:
            self.send(Offers(self._offers))
            self._told = self._offers
        except NodeLost:  # the next hello has them
            log.debug("offers not sent: no session")

    def _report(self, message: Message) -> None:
        try:
            self.send(message)
        except NodeLost as error:  # the coordinator will ask afresh when it is back
            log.debug("not reported", kind=type(message).__name__, reason=str(error))


def _label(key: EngineKey) -> str:
    return f"{key.group}.{key.generation}/{key.rank}"


def _no_session(message: Message) -> None:
    raise NodeLost(f"no session with the coordinator yet, {type(message).__name__} not sent")
