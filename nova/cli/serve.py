"""`nova serve`: a deployment on this machine that stays, and serves the HTTP API."""

from __future__ import annotations

import asyncio
import shlex
import socket
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.status import Status as Spinner

from nova.cli import edge, options
from nova.cli.keys import hash_of
from nova.cli.output import Serving, emit
from nova.cli.run import MAX_NODES, make_plan
from nova.cli.show import err, out
from nova.cli.stream import WATCH_S, describe
from nova.clock import Deadline
from nova.config.load import load
from nova.config.schema import Api
from nova.control.client import Client
from nova.errors import ConfigError, ControlError, EngineError, NovaError
from nova.local.cluster import ClusterPlan, running, setting
from nova.local.keeper import keep
from nova.model.locate import served_name
from nova.wire.requests import StatusReply

MAX_PORT = 65535

FAILING_S = 15.0
"""s; a deployment that has not served yet and fails for this long is given up."""
LINE_S = 5.0
"""s; between two lines on what it does, where standard error is no terminal."""


def command(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Folder, name in $NOVA_HOME/models, hub id, or emulated:PROFILE.")
    ],
    nodes: Annotated[int, typer.Option(min=1, max=MAX_NODES, help="How many nodes to start.")] = 1,
    split: Annotated[str, typer.Option(help="Layers per node, as in 18,12; empty splits evenly.")] = "",
    transport: Annotated[str, typer.Option(help="Use this transport only; empty lets Nova choose.")] = "",
    listen: Annotated[str, typer.Option(help="host:port of the HTTP API; port 0 takes a free one.")] = Api().listen,
    api_key: Annotated[
        list[str] | None,
        typer.Option("--api-key", help="A key that may use it, or its hash; may be repeated. None are needed without."),
    ] = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Serve a model over N nodes of this machine until Ctrl-C, with OpenAI's and Anthropic's APIs.

    --json prints its object once it serves, and goes on.
    """
    try:
        home = options.home(None, set_)
        settings = [*api_settings(listen, api_key or []), *(set_ or [])]
        plan = make_plan(nodes, model, split, transport, settings, home)
        check_free(load(None, settings).api.listen)
    except NovaError as error:
        edge.fail(error, json)
    edge.run(_serve(plan, home, json), json)


def api_settings(listen: str, keys: list[str]) -> list[str]:
    """The daemons see hashes only: their command lines are no place for a secret."""
    hashes = [key if key.startswith("sha256:") else hash_of(key) for key in keys]
    return [setting("api.listen", listen), setting("api.keys", hashes)]


def check_free(listen: str) -> None:
    """Before anything is started: whether the coordinator will be able to listen there. Raises ConfigError."""
    if not listen:
        raise ConfigError("--listen: is empty: say on which host:port to serve, as 127.0.0.1:29280")
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ConfigError(f"--listen: expected host:port with a port up to {MAX_PORT}, got {listen!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), int(port)), family=family).close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"--listen: cannot listen on {listen}: {why}; --listen 127.0.0.1:0 takes a free port"
        ) from error


async def _serve(plan: ClusterPlan, home: Path, json: bool) -> None:
    """Until cancelled, which is its end in order once it serves. Raises NovaError if it does not come up."""
    _say(f"starting {plan.nodes} node{'s' * (plan.nodes > 1)} for {served_name(plan.model)}")
    async with running(plan, home) as cluster:
        keeping = asyncio.create_task(keep(cluster, _say))
        try:
            async with cluster.client() as client:
                status = await _come_up(client)
                api = load(None, list(plan.settings)).api
                found = Serving(
                    url=cluster.api, model=served_name(plan.model), nodes=plan.names, transport=status.transport,
                    keys=len(api.keys), control=cluster.address, home=str(cluster.folder),
                )  # fmt: skip
                if json:
                    emit(found)
                else:
                    _print(found, api.tls_certificate)
                with suppress(asyncio.CancelledError):
                    await _watch(client, status.state)
                _say("stopping")
        finally:
            keeping.cancel()


async def _come_up(client: Client) -> StatusReply:
    """Until it serves, saying what it does. Raises EngineError for one that will not."""
    failing: Deadline | None = None
    line, told = "", Deadline.after(0.0)
    with err.status("starting the nodes") as spinner:
        while True:
            with suppress(ControlError):  # the coordinator may itself have to be started again
                status = await client.status()
                if status.state == "serving":
                    return status
                if status.state == "failed":
                    failing = failing or Deadline.after(FAILING_S)
                    if failing.expired or not status.generation:  # no group was ever tried: the model is at fault
                        raise EngineError(f"it cannot be served: {'; '.join(status.reasons[-1:])}")
                if describe(status) != line and told.expired:
                    line, told = describe(status), Deadline.after(0.0 if err.is_terminal else LINE_S)
                    _progress(spinner, line)
            await asyncio.sleep(WATCH_S)


async def _watch(client: Client, state: str) -> None:
    """Say when it stops serving and when it is back, until cancelled."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            status = await client.status()
        except ControlError as error:
            now, why = "lost", str(error)
        else:
            now, why = status.state, "; ".join(status.reasons[-1:])
        if now != state and "serving" in (now, state):
            _say(f"serving again over {status.transport}" if now == "serving" else f"not serving, it recovers: {why}")
        state = now


def _print(found: Serving, certificate: str) -> None:
    """What to open, and lines to copy; `certificate` is that of https."""
    messages = [{"role": "user", "content": "Hello"}]
    body = msgspec.json.encode({"model": found.model, "max_tokens": 64, "messages": messages}).decode()
    options = ' -H "Authorization: Bearer $NOVA_API_KEY"' if found.keys else ""
    options += f" --cacert {shlex.quote(certificate)}" if certificate else ""
    curl = f"curl {found.url}/v1/chat/completions -H 'Content-Type: application/json'{options} -d {shlex.quote(body)}"
    chat = f"nova chat --url {found.url}" + (f" --ca {shlex.quote(certificate)}" if certificate else "")
    here = {"control.address": found.control, "control.coordinator": found.nodes[0], "home": found.home}
    more = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in here.items())
    over = f"{len(found.nodes)} nodes over {found.transport}" if len(found.nodes) > 1 else "1 node"
    err.print(f"serving {found.model} with {over}; Ctrl-C ends it", style="bold", markup=False, soft_wrap=True)
    for name, text in (("url", f"{found.url}/v1"), ("chat", chat), ("try", curl), ("more", f"nova status {more}")):
        out.print(f"{name:6} {text}", markup=False, soft_wrap=True)


def _progress(spinner: Spinner, line: str) -> None:
    if err.is_terminal:
        spinner.update(escape(line))
    else:
        _say(line)


def _say(line: str) -> None:
    err.print(line, style="dim", markup=False, soft_wrap=True)
