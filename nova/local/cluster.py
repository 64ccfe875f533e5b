"""A throw-away cluster: N daemons on loopback with keys of their own, for as long as one command runs.

Nothing of it is left behind, however the command ends: each daemon holds a lifeline to us and each engine one to its
daemon, and at the end every process that carries our mark in its environment is waited for, then killed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import structlog

from nova import paths
from nova.clock import Deadline
from nova.config.schema import NodeConfig
from nova.control.client import Client
from nova.control.credentials import CLIENT_KEY
from nova.control.keys import KeyStore
from nova.errors import EngineError
from nova.local.process import DaemonProcess

log = structlog.get_logger(__name__)

MARK = "NOVA_CLUSTER"
PROFILES = "profiles"
"""In a node's home (`nova.node.profiling`)."""
START_S = 60.0
"""A daemon that is not up after this long never will be; a cold start on a slow disk takes some seconds."""


@dataclass(frozen=True)
class ClusterPlan:
    """What to start. `settings` (`key=value`, as in --set) go to every node, `node_settings[i]` to the i-th only."""

    nodes: int
    model: str
    split: Sequence[int] = ()
    transports: Sequence[str] = ()
    settings: Sequence[str] = ()
    node_settings: Sequence[Sequence[str]] = ()

    @property
    def names(self) -> list[str]:
        return [f"node-{index + 1}" for index in range(self.nodes)]


class LocalCluster:
    """Daemons node-1 (the coordinator) to node-N. Made by `running`.

    `address` is where the coordinator listens, `api` the URL of its HTTP API, "" where the plan has none.
    """

    def __init__(self, plan: ClusterPlan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.daemons: list[DaemonProcess] = []
        self.address = ""
        self.api = ""
        self._environment = {**os.environ, MARK: folder.name}

    async def start(self) -> None:
        """The coordinator first, for its port; then all workers at once. Raises EngineError."""
        deadline = Deadline.after(START_S)
        self.daemons = [self._daemon(0)]
        coordinator = await self.daemons[0].start(deadline)
        self.address, self.api = coordinator.address, coordinator.api
        self.daemons += [self._daemon(index) for index in range(1, self.plan.nodes)]
        await asyncio.gather(*(daemon.start(deadline) for daemon in self.daemons[1:]))

    async def restart(self, index: int, deadline: Deadline) -> None:
        """A daemon that has ended comes back as the same node, at the same addresses. Raises EngineError."""
        daemon = self.daemons[index] = self._daemon(index)
        try:
            await daemon.start(deadline)
        except EngineError:
            daemon.kill()
            raise

    @asynccontextmanager
    async def client(self, deadline_s: float = 10.0) -> AsyncIterator[Client]:
        """A session with the coordinator."""
        store = KeyStore(self.folder)
        key, server = store.load(CLIENT_KEY), store.trusted_key(self.plan.names[0])
        deadline = Deadline.after(deadline_s)
        async with Client.connect(self.address, server, key, CLIENT_KEY, deadline, NodeConfig().control) as client:
            yield client

    def casualties(self) -> list[str]:
        """How each daemon ended that has ended, in words."""
        return [how for daemon in self.daemons if (how := daemon.how_it_ended()) is not None]

    async def stop(self) -> None:
        """Ask, wait, kill; then nothing that carries our mark is left. Idempotent."""
        for daemon in self.daemons:
            daemon.ask_to_end()
        limit = 2 * NodeConfig().engine.stop_s + 3.0
        ends = [asyncio.ensure_future(daemon.ended()) for daemon in self.daemons if daemon.started]
        if ends:
            _, late = await asyncio.wait(ends, timeout=limit)
            for daemon in self.daemons:
                daemon.kill()
            if late:
                log.warning("daemons did not end in time and were killed", count=len(late))
                await asyncio.wait(late, timeout=5.0)
        await asyncio.to_thread(self._sweep)

    def _daemon(self, index: int) -> DaemonProcess:
        return DaemonProcess(self.plan.names[index], self.folder, self._settings(index), self._environment)

    def _settings(self, index: int) -> list[str]:
        """What makes a daemon one of this cluster; the plan's own settings come later and win, but for the home."""
        plan, names = self.plan, self.plan.names
        settings = [
            setting("name", names[index]),
            setting("role", "worker" if index else "coordinator"),
            setting("control.coordinator", names[0]),
            setting("control.address", self.address or "127.0.0.1:0"),
            setting("api.listen", ""),
            # All engines share this machine: its memory, and a BLAS that takes every core for each is slower for all.
            setting("engine.kv_share", 0.5 / plan.nodes),
            setting("engine.threads", max(1, (os.cpu_count() or 1) // plan.nodes)),
        ]
        if plan.transports:
            settings.append(setting("transport.order", list(plan.transports)))
        if not index:
            settings += [setting("deployment.model", plan.model), setting("deployment.nodes", names)]
            settings.append(setting("deployment.split", list(plan.split)))
        settings += [*plan.settings, *(plan.node_settings[index] if index < len(plan.node_settings) else ())]
        if self.api and not index:  # the port that it had before, for the clients that know it
            settings.append(setting("api.listen", self.api.rpartition("//")[2]))
        return [*settings, setting("home", str(self.folder))]

    def _sweep(self) -> None:
        """Engines end by their lifelines; this proves it, and helps where it did not happen."""
        left = marked(self.folder.name)
        _, alive = psutil.wait_procs(left, timeout=5.0)
        for process in alive:
            log.warning("a process of the cluster was left and is killed", pid=process.pid)
            process.kill()
        psutil.wait_procs(alive, timeout=5.0)


def setting(key: str, value: str | list[str] | list[int] | int | float) -> str:
    """`key=value` as --set reads it; JSON's strings, numbers and arrays are TOML's too."""
    return f"{key}={msgspec.json.encode(value).decode()}"


def marked(mark: str) -> list[psutil.Process]:
    """The processes of this cluster, other than this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@asynccontextmanager
async def running(plan: ClusterPlan, home: Path) -> AsyncIterator[LocalCluster]:
    """A started cluster, taken down at the end. Its folder lies in `home`/run and is removed."""
    base = paths.ensure(paths.run(home))
    _sweep_folders(base)
    folder = base / f"cluster-{os.getpid()}-{secrets.token_hex(3)}"
    cluster = LocalCluster(plan, paths.ensure(folder))
    # What this machine can do with a model is measured once, and not by every cluster that is thrown away.
    (folder / PROFILES).symlink_to(paths.ensure(home / PROFILES), target_is_directory=True)
    try:
        await cluster.start()
        yield cluster
    finally:
        try:
            await _to_its_end(cluster.stop())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work` whatever cancels come meanwhile; the last of them is raised when it is done."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as again:
            cancelled = again
    task.result()
    if cancelled is not None:
        raise cancelled


def _sweep_folders(base: Path) -> None:
    """Remove what commands left that were killed: the folder's name carries the process id."""
    for folder in base.glob("cluster-*"):
        pid = folder.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
