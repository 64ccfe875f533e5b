"""`nova generate`, `nova status` and `nova explain`: against a deployment that runs already."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nova import paths
from nova.cli import edge, options
from nova.cli.output import Explanation, Status, Text
from nova.cli.show import account, cluster, out
from nova.cli.show_explain import explanation
from nova.cli.stream import Received, ask, follow
from nova.clock import Deadline
from nova.config.load import load
from nova.control.client import Client
from nova.control.credentials import CLIENT_KEY, server_key
from nova.control.keys import KeyStore
from nova.errors import KeyFileError, NodeLost, NovaError
from nova.wire.requests import Generate

CONNECT_S = 5.0


def generate(
    prompt: options.Prompt,
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    chat: options.Chat = False,
    deadline: options.Deadline = 3600.0,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Generate text with the deployment that the configuration names."""
    try:
        request = ask(prompt, chat, max_tokens, temperature, top_p, seed, deadline)
    except NovaError as error:
        edge.fail(error, json)
    received = Received()
    edge.run(_generate(config, set_ or [], request, received, json), json, received.cut_off)


def status(config: options.Config = None, set_: options.Set = None, json: options.Json = False) -> None:
    """Show nodes, engines, stages, transport, memory and heartbeats of a running deployment."""
    edge.run(_status(config, set_ or [], json), json)


def explain(config: options.Config = None, set_: options.Set = None, json: options.Json = False) -> None:
    """Say which transport a running deployment uses, and why not another: candidates, attempts, links."""
    edge.run(_explain(config, set_ or [], json), json)


async def _generate(
    config: Path | None, settings: list[str], request: Generate, received: Received, json: bool
) -> Text:
    async with connect(config, settings) as client:
        text = await follow(client, request, received, quiet=json)
    if not json:
        out.print()
        out.print(account(text))
    return text


async def _status(config: Path | None, settings: list[str], json: bool) -> Status:
    async with connect(config, settings) as client:
        reply = await client.status()
    fields = {name: getattr(reply, name) for name in Status.__struct_fields__}
    found = Status(**fields)
    if not json:
        out.print(cluster(found))
    return found


async def _explain(config: Path | None, settings: list[str], json: bool) -> Explanation:
    async with connect(config, settings) as client:
        reply = await client.explain()
    found = Explanation(**{name: getattr(reply, name) for name in Explanation.__struct_fields__})
    if not json:
        out.print(explanation(found))
    return found


@asynccontextmanager
async def connect(config: Path | None, settings: list[str]) -> AsyncIterator[Client]:
    """A session with the coordinator, by the key of this user. Raises ControlError and ConfigError."""
    node = load(config, settings)
    home = paths.home(node.home)
    try:
        server, key = server_key(node, home), KeyStore(home).ensure(CLIENT_KEY)
    except KeyFileError as error:
        if not node.home:
            raise
        raise KeyFileError(f"{error}, with --set {shlex.quote(f'home={home}')}") from error
    deadline = Deadline.after(CONNECT_S)
    async with AsyncExitStack() as stack:
        try:
            dialled = Client.connect(node.control.address, server, key, CLIENT_KEY, deadline, node.control)
            client = await stack.enter_async_context(dialled)
        except NodeLost as error:
            hint = "is its nova-node running, and is control.address, from --config or --set, its address?"
            raise NodeLost(f"{error}: {hint}") from error
        yield client
