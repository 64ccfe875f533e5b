"""`nova run`: a throw-away cluster on this machine, one request, the text and its account."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from nova.cli import edge, options
from nova.cli.output import Text
from nova.cli.show import account, err, out
from nova.cli.show_explain import hint
from nova.cli.stream import Received, ask, follow
from nova.config.load import load
from nova.control.client import Client
from nova.errors import ConfigError, GenerationError, NodeLost, NovaError
from nova.local.cluster import ClusterPlan, LocalCluster, running, setting
from nova.model.locate import is_hub_id, locate
from nova.plan.profiles import Profile, find_profile, is_emulated
from nova.transport.registry import installed
from nova.wire.requests import Generate

MAX_NODES = 16
NOTICE_S = 1.0
"""s; how long after a request we look for more to tell: whether a daemon has died, whether a transport failed."""


def command(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Folder, name in $NOVA_HOME/models, hub id, or emulated:PROFILE.")
    ],
    prompt: options.Prompt,
    nodes: Annotated[int, typer.Option(min=1, max=MAX_NODES, help="How many nodes to start.")] = 2,
    split: Annotated[str, typer.Option(help="Layers per node, as in 18,12; empty splits evenly.")] = "",
    transport: Annotated[str, typer.Option(help="Use this transport only; empty lets Nova choose.")] = "",
    max_tokens: options.MaxTokens = 128,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    chat: options.Chat = False,
    deadline: options.Deadline = 3600.0,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Run a model over N nodes of this machine, print the text, and take everything down again."""
    try:
        generate = ask(prompt, chat, max_tokens, temperature, top_p, seed, deadline)
        home = options.home(None, set_)
        plan = make_plan(nodes, model, split, transport, set_ or [], home)
    except NovaError as error:
        edge.fail(error, json)
    received = Received()
    edge.run(_run(plan, home, generate, received, json), json, received.cut_off)


def make_plan(nodes: int, model: str, split: str, transport: str, settings: list[str], home: Path) -> ClusterPlan:
    """What is wrong with the options is said here, before any process is started."""
    chosen = [setting("transport.order", [transport])] if transport else []
    allowed = load(None, [*chosen, *settings]).transport.allowed
    located = model
    if not is_emulated(model):
        folder = locate(model, home).absolute()  # the daemons have homes of their own, but the hub's cache in common
        located = model if is_hub_id(model) and not Path(model).exists() else str(folder)
    if is_emulated(model):
        check_nodes(find_profile(model), nodes)
    if transport and transport not in installed():
        names = ", ".join(sorted(installed())) or "none"
        raise ConfigError(f"--transport: there is no transport {transport!r}; installed are: {names}")
    if transport and allowed != [transport]:
        raise ConfigError(f"--transport: {transport} is asked for, but --set allows {', '.join(allowed)}")
    layers = parse_split(split)
    if layers and len(layers) != nodes:
        raise ConfigError(f"--split: {split} is for {len(layers)} nodes, but --nodes is {nodes}")
    return ClusterPlan(nodes, located, layers, [transport] if transport else [], settings)


def check_nodes(profile: Profile, nodes: int) -> None:
    """An emulated model has times for its own stages only. Raises ConfigError."""
    if not profile.divisible and nodes != len(profile.split):
        told = f"emulated:{profile.name} is made for {len(profile.split)} nodes, not {nodes}"
        raise ConfigError(f"--nodes: {told}; a real model runs over any number")


def parse_split(text: str) -> list[int]:
    """ "18,12" as numbers. Raises ConfigError."""
    try:
        layers = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--split: expected numbers with commas, as in 18,12, got {text!r}") from None
    if any(each < 1 for each in layers):
        raise ConfigError(f"--split: every node needs at least 1 layer, got {text}")
    return layers


async def _run(plan: ClusterPlan, home: Path, generate: Generate, received: Received, json: bool) -> Text:
    if not json:
        err.print(f"starting {plan.nodes} node{'s' * (plan.nodes > 1)} for {plan.model}", style="dim", markup=False)
    async with running(plan, home) as cluster, cluster.client() as client:
        try:
            text = await follow(client, generate, received, quiet=json)
        except (GenerationError, NodeLost) as error:
            await _hint(client, "", str(error))
            raise GenerationError(await _with_casualties(cluster, str(error))) from error
        await _hint(client, text.transport)
    if not json:
        out.print()
        out.print(account(text))
    return text


async def _hint(client: Client, in_use: str, said: str = "") -> None:
    """Tell a user who may have wished for another transport why it was not that; no more than a courtesy."""
    with suppress(NovaError):
        if line := hint((await client.explain(NOTICE_S)).attempts, in_use, said):
            err.print(line, style="yellow", markup=False, soft_wrap=True)


async def _with_casualties(cluster: LocalCluster, reason: str) -> str:
    """The reason, and how each of our daemons ended that has ended: we are their parent, so we know."""
    ends = [asyncio.ensure_future(daemon.ended()) for daemon in cluster.daemons]
    await asyncio.wait(ends, timeout=NOTICE_S, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    return "; ".join([reason, *cluster.casualties()])
