"""`nova sim`: what a cluster would do under load, on a virtual clock; also one that nobody has yet."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nova import paths
from nova.cli import edge, options
from nova.cli.output import Output, emit
from nova.cli.show import err, out
from nova.cli.show_sim import simulated
from nova.errors import ConfigError, NovaError
from nova.plan.inputs import Question, Strategy, Workload
from nova.plan.profiles import find_profile
from nova.sim.load import Fault, Load, poisson
from nova.sim.result import SimReport

if TYPE_CHECKING:
    from nova.sim.pipeline import Placement
    from nova.sim.run import Simulation

PATIENCE_S = 2.0
"""What takes longer says how far it is."""
LOOK = 256
"""Events between two looks at the clock."""
MOST_TOKENS = 10_000_000
"""Of all prompts and answers together, as each has its place in memory: tens of bytes."""
NAMED = 8
"""Nodes that an error lists."""


class Simulated(Output, frozen=True, kw_only=True):
    """`nova sim --json`."""

    report: SimReport


def command(
    model: Annotated[str, typer.Option(help="With --nodes: folder, name in $NOVA_HOME/models, or hub id.")] = "",
    nodes: Annotated[
        Path | None, typer.Option(help="A file that says what the nodes are, as conf/nodes-example.toml.")
    ] = None,
    strategy: Annotated[Strategy, typer.Option(help="With --nodes: how layers are placed.")] = "auto",
    batch: Annotated[int, typer.Option(min=0, help="With --nodes: texts at once to plan for; 0 is --streams.")] = 0,
    emulated: Annotated[str, typer.Option(help="Instead of nodes: a profile, as m5dense.")] = "",
    stages: Annotated[int, typer.Option(min=1, max=1000, help="With --emulated: nodes, node-1 and on.")] = 2,
    hop_ms: Annotated[float, typer.Option(min=0.0, max=1e4, help="With --emulated: latency of a link, one way.")] = 0.3,
    hop_gb_s: Annotated[float, typer.Option(min=1e-6, max=1e6, help="With --emulated: its bandwidth.")] = 1.0,
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many come.")] = 100,
    rate: Annotated[float, typer.Option(min=0.0, max=1e6, help="In a second, at random; 0 is all at once.")] = 0.0,
    streams: Annotated[int, typer.Option(min=0, max=100_000, help="Closed loop: so many at once; 0 is none.")] = 0,
    prompt: Annotated[int, typer.Option(min=1, max=1 << 20, help="Tokens of each prompt.")] = 512,
    tokens: Annotated[int, typer.Option(min=1, max=1 << 20, help="Tokens of each answer.")] = 128,
    kill: Annotated[list[str] | None, typer.Option(help="NODE@SECONDS: it dies then; may be repeated.")] = None,
    pause: Annotated[float, typer.Option(min=0.0, max=1e6, help="Seconds until a group is formed without it.")] = 5.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same requests.")] = 0,
    json: options.Json = False,
) -> None:
    """Say what a cluster would give under load: tok/s, time to first token, how busy each node is, what a fault costs.

    Nothing runs: the engine's scheduler is asked over stages on paper. There is no limit of memory or of requests at
    once, no prefix cache and no speculation in it.
    """
    from nova.sim.run import Simulation  # these take a while to import
    from nova.sim.summary import report

    if bool(emulated) == bool(nodes) or bool(nodes) != bool(model):
        raise typer.BadParameter("either --nodes FILE with --model M, or --emulated PROFILE")
    if streams and rate:
        raise typer.BadParameter("--streams is a closed loop, where requests do not come at a --rate")
    if requests * (prompt + tokens) > MOST_TOKENS:
        raise typer.BadParameter(f"prompts and answers come to more than {MOST_TOKENS:,} tokens: fewer --requests")
    workload = Workload(prompt + tokens, batch or streams or 1, prompt, prefer="stream" if streams == 1 else "many")
    try:
        faults = [parse_kill(text) for text in kill or []]
        place, names = (
            _from_file(nodes, model, strategy, workload)
            if nodes
            else _from_profile(emulated, stages, hop_ms / 1e3, hop_gb_s * 1e9)
        )
        if unknown := [fault.node for fault in faults if fault.node not in names]:
            raise ConfigError(f"--kill: there is no {', '.join(unknown)}; the nodes are {_few(names)}")
        simulation = Simulation(place, Load(poisson(requests, rate, prompt, tokens, seed), streams), faults, pause)
        _run(simulation, requests)
    except NovaError as error:
        edge.fail(error, json)
    result = Simulated(report=report(simulation))
    if json:
        emit(result)
    else:
        out.print(simulated(result.report))


def parse_kill(text: str) -> Fault:
    """NODE@SECONDS. Raises ConfigError."""
    node, _, moment = text.rpartition("@")
    try:
        at = float(moment)
    except ValueError:
        at = math.nan
    if not node or not 0 <= at < math.inf:
        raise ConfigError(f"--kill: expected NODE@SECONDS, as node-2@1.5, got {text!r}")
    return Fault(node, at)


def _from_profile(name: str, stages: int, latency_s: float, bandwidth: float) -> tuple[Placement, list[str]]:
    """Raises ModelError and PlanError."""
    from nova.sim.places import emulated  # takes a while to import

    names = [f"node-{number}" for number in range(1, stages + 1)]
    return emulated(find_profile(name), names, latency_s, bandwidth), names


def _from_file(file: Path, model: str, strategy: Strategy, workload: Workload) -> tuple[Placement, list[str]]:
    """Raises ConfigError, ModelError and PlanError."""
    from nova.model.figures import figures_of  # these take a while to import
    from nova.plan.nodes import read_nodes
    from nova.sim.places import planned

    figures = figures_of(model, paths.home())
    nodes, links = read_nodes(file, figures)
    return planned(Question(figures, nodes, links, workload, strategy)), [node.name for node in nodes]


def _run(simulation: Simulation, requests: int) -> None:
    """To its end; it is on no event loop, so an interrupt ends it at once."""
    begun, told = time.monotonic(), err.status("")
    try:
        while all(simulation.step() for _ in range(LOOK)):
            if time.monotonic() - begun > PATIENCE_S:
                over = sum(each.over for each in simulation.served)
                told.update(f"{over} of {requests} requests are over at {simulation.now:.1f} s of the virtual clock")
                told.start()
    finally:
        told.stop()


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
