"""The `nova-node` process: a worker, or the coordinator with a worker inside.

The coordinator's own node goes through the same control plane as every other one: its agent dials its own hub over
loopback. So there is one way in which a node takes part, and nothing that works only where the coordinator is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import typer

from nova import paths
from nova.config.load import load
from nova.config.schema import NodeConfig
from nova.control.credentials import node_keys, server_key
from nova.control.hub import Hub
from nova.control.keys import KeyStore
from nova.control.spoke import Spoke
from nova.control.zap import TrustList
from nova.coordinator.service import Coordinator
from nova.errors import ConfigError, ModelError, NovaError
from nova.log import setup
from nova.model.locate import is_hub_id, locate
from nova.node.agent import NodeAgent
from nova.node.facts import boot_id, default_name
from nova.node.prober import Prober
from nova.plan.profiles import find_profile, is_emulated
from nova.wire.boot import Announcement

log = structlog.get_logger(__name__)


def main() -> None:
    typer.run(command)


def command(
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML); see conf/nova.toml.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the file; may be repeated.")] = None,
    lifeline: Annotated[bool, typer.Option(help="End when standard input is closed.")] = False,
    json: Annotated[bool, typer.Option(help="Print one JSON line on standard output once the node is up.")] = False,
) -> None:
    """Run one Nova node until SIGTERM or Ctrl-C."""
    try:
        node = named(load(config, set_ or []))
        check_model(node, str(config or "--set"), paths.home(node.home))
        setup(node.log.level, node.log.format, node=node.name)
        asyncio.run(serve(node, paths.ensure(paths.home(node.home)), lifeline, json))
    except NovaError as error:
        print(f"nova-node: {error}", file=sys.stderr)
        raise typer.Exit(1) from None


def check_model(config: NodeConfig, source: str, home: Path) -> None:
    """Raises ConfigError for a model that is not there. A hub id may still come from the network, in its own time."""
    model = config.deployment.model
    if config.role != "coordinator" or not model or is_hub_id(model):
        return
    try:
        if is_emulated(model):
            find_profile(model)
        else:
            locate(model, home)
    except ModelError as error:
        raise ConfigError(f"{source}: deployment.model: {error}") from error


def named(config: NodeConfig) -> NodeConfig:
    """The configuration with the node's name settled: the coordinator has the name that workers dial it by."""
    default = str(config.control.coordinator) if config.role == "coordinator" else default_name()
    return msgspec.structs.replace(config, name=config.name or default)


async def serve(config: NodeConfig, home: Path, lifeline: bool, announce: bool) -> None:
    """Run the node until a signal, the end of the lifeline, or an error of one of its parts.

    The node takes part once its transports are probed. Raises ConfigError for a plugin's option that is wrong, and for
    an address or a certificate of the API that cannot be used.
    """
    keys = node_keys(config, home)
    prober = Prober(config.transport)
    async with AsyncExitStack() as ending:  # from the bottom to the top of this text, when it ends
        agent = NodeAgent(config, home)
        ending.push_async_callback(agent.close)
        told, probing = asyncio.create_task(_told_to_end(lifeline)), asyncio.create_task(prober.look())
        tasks: list[asyncio.Task[None]] = [told]
        ending.push_async_callback(_cancel, tasks)
        ending.push_async_callback(_cancel, [probing])
        if config.role == "coordinator":
            coordinator = Coordinator(config, home, boot_id())
            hub = Hub(config.name, config.control.address, keys, TrustList(KeyStore(home)), config.control, coordinator)
            await hub.start()
            ending.push_async_callback(hub.close, "the coordinator ends")
            coordinator.hub = hub
            config = with_port(config, hub.port)
            tasks += [asyncio.create_task(coordinator.run()), asyncio.create_task(hub.run())]
        spoke = Spoke(config.control.address, server_key(config, home), keys, agent.hello, config.control, agent)
        agent.send = spoke.send
        ending.push_async_callback(spoke.close, "the node ends")
        ending.push_async_callback(agent.close)  # engines end while there is a session to report it on
        api = ""
        if config.role == "coordinator":
            if config.api.listen:
                # Workers, and coordinators without HTTP, start without the half second that its import takes.
                from nova.api.server import Server

                server = Server(coordinator.front, config.api)
                api = server.url
                tasks.append(asyncio.create_task(server.run()))
                ending.push_async_callback(server.close)
            ending.callback(coordinator.close)  # first of all, so that clients hear the true reason
        await asyncio.wait({told, probing}, return_when=asyncio.FIRST_COMPLETED)
        if not probing.done():
            return
        agent.offer(probing.result())
        log.info("node starts", role=config.role, pid=os.getpid(), coordinator=config.control.address)
        if announce:
            up = Announcement(config.name, config.role, config.control.address, os.getpid(), agent.endpoint, api)
            print(msgspec.json.encode(up).decode(), flush=True)
        tasks += [asyncio.create_task(part) for part in (agent.run(), spoke.run(), prober.watch(agent.offer))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        log.info("node ends")
        for task in done:
            task.result()  # a part that failed ends the node, with its error


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def with_port(config: NodeConfig, port: int) -> NodeConfig:
    """The configuration with the port that was bound in place of port 0."""
    host = config.control.address.rpartition(":")[0]
    control = msgspec.structs.replace(config.control, address=f"{host}:{port}")
    return msgspec.structs.replace(config, control=control)


async def _told_to_end(lifeline: bool) -> None:
    """Until SIGTERM, SIGINT, or, with a lifeline, the end of standard input."""
    ending, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)

    def read() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            ending.set()

    if lifeline:
        loop.add_reader(sys.stdin.fileno(), read)
    await ending.wait()
