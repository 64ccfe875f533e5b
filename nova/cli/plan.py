"""`nova plan`: which nodes should have which layers, and what that would give; also of nodes that nobody has yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Annotated

import typer

from nova import paths
from nova.cli import edge, options
from nova.cli.output import Output, emit
from nova.cli.remote import connect
from nova.cli.show import err, out
from nova.cli.show_plan import planned
from nova.config.load import load
from nova.config.schema import NodeConfig
from nova.errors import ConfigError, NovaError
from nova.ids import new_request_id
from nova.plan.inputs import Question, Strategy, Workload
from nova.wire.plans import Alternative, PlannedStage, PlanReport, Prediction
from nova.wire.requests import PlanQuery

PATIENCE_S = 2.0
"""s; what takes longer is told."""
PLAN_S = 120.0
"""s; the coordinator may have to let every node measure itself first, and a large cluster takes 30 s of search."""

COUNT = re.compile("[1-9][0-9]{0,5}")


class Plan(Output, frozen=True, kw_only=True):
    """`nova plan --json`: a `nova.wire.plans.PlanReport`."""

    model: str
    strategy: str
    objective: str
    stages: list[PlannedStage]
    prediction: Prediction
    bottleneck: str
    advice: str
    alternatives: list[Alternative]
    excluded: dict[str, str]
    gap: float
    notes: list[str]
    context: int
    batch: int
    prompt: int
    acceptance: float

    @classmethod
    def of(cls, report: PlanReport) -> Plan:
        return cls(**{name: getattr(report, name) for name in cls.__struct_fields__})


def command(
    model: Annotated[
        str, typer.Argument(help="Folder, name in $NOVA_HOME/models, hub id, or emulated:PROFILE; else the cluster's.")
    ] = "",
    nodes: Annotated[
        Path | None,
        typer.Option(help="A file that says what the nodes are, as conf/nodes-example.toml; else the cluster's are."),
    ] = None,
    strategy: Annotated[Strategy, typer.Option(help="What is planned for, or by which rule.")] = "auto",
    context: Annotated[int | None, typer.Option(min=1, help="Tokens of a text whose caches must fit.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Texts at once.")] = None,
    prompt: Annotated[int | None, typer.Option(min=1, help="Tokens before the first one that is predicted.")] = None,
    acceptance: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Probability that a guess of speculation is right.")
    ] = None,
    pin: Annotated[list[str] | None, typer.Option(help="A node that must have a stage; may be repeated.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A node that must have none; may be repeated.")] = None,
    split: Annotated[str, typer.Option(help="Judge this placement: layers by node in order, as a=40,b=24.")] = "",
    from_running: Annotated[
        bool, typer.Option("--from-running", help="Plan from the times of the deployment that runs.")
    ] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Say which nodes should have which layers, what to expect of that, and what else there is.

    With --nodes no cluster is needed; the model's weights are not read.
    """
    if nodes and from_running:
        raise typer.BadParameter("--nodes and --from-running exclude each other")
    if nodes and not model:
        raise typer.BadParameter("--nodes needs a model")
    try:
        layers = parse_split(split)
        chosen = rule(strategy, bool(layers))
        query = PlanQuery(
            new_request_id(), model, chosen, context or 0, batch or 0, prompt or 0, acceptance,
            pin or [], exclude or [], layers, from_running,
        )  # fmt: skip
        report = here(query, chosen, nodes, load(config, set_ or [])) if nodes else None
    except NovaError as error:
        edge.fail(error, json)
    if report is None:
        edge.run(_there(query, config, set_ or [], json), json)
    elif json:
        emit(Plan.of(report))
    else:
        out.print(planned(report, out.width))


def here(query: PlanQuery, strategy: Strategy, file: Path, node: NodeConfig) -> PlanReport:
    """Plan for the nodes of a file; on no event loop, so that an interrupt ends it at once. Of the configuration's
    [plan], pin and exclude are about other nodes, and its strategy about a deployment.

    Raises ConfigError, ModelError and PlanError.
    """
    from nova.model.figures import figures_of  # these three take a while to import
    from nova.plan.nodes import read_nodes
    from nova.plan.strategies import plan

    with _patiently(f"reading what {query.model} is made of"):
        model = figures_of(query.model, paths.home(node.home))
        nodes, links = read_nodes(file, model)
    names = [node.name for node in nodes]
    wanted = {"--pin": query.pinned, "--exclude": query.excluded, "--split": [name for name, _ in query.manual]}
    for option, asked in wanted.items():
        if unknown := [name for name in asked if name not in names]:
            raise ConfigError(f"{option}: {', '.join(unknown)} is not in {file}; nodes there are {', '.join(names)}")
    default = node.plan
    workload = Workload(
        query.context or default.context, query.batch or default.batch, query.prompt or Workload.prompt,
        default.acceptance if query.acceptance is None else query.acceptance, default.head_room,
        min_layers=default.min_layers, prefer=default.prefer,
    )  # fmt: skip
    question = Question(
        model, nodes, links, workload, strategy, frozenset(query.pinned),
        dict.fromkeys(query.excluded, "--exclude names it"), query.manual,
    )  # fmt: skip
    with _patiently(f"placing {len(model.layers)} layers on {len(names)} nodes"):
        return plan(question)


def rule(strategy: Strategy, by_hand: bool) -> Strategy:
    """A split by hand is the strategy `manual`. Raises ConfigError with another one."""
    if by_hand and strategy not in ("auto", "manual"):
        raise ConfigError(f"--split: it says where the layers are, and --strategy {strategy} is to choose that")
    return "manual" if by_hand else strategy


def parse_split(text: str) -> list[tuple[str, int]]:
    """ "a=40,b=24" as nodes and their layers, in pipeline order. Raises ConfigError."""
    parts = [part.strip().rpartition("=") for part in text.split(",")] if text else []
    if not all(name and COUNT.fullmatch(count) for name, _, count in parts):
        raise ConfigError(f"--split: expected layers by node, in pipeline order, as a=40,b=24, got {text!r}")
    return [(name, int(count)) for name, _, count in parts]


async def _there(query: PlanQuery, config: Path | None, settings: list[str], json: bool) -> Plan:
    """What the coordinator plans for its cluster. Raises ControlError with its reason, and ConfigError."""
    async with connect(config, settings) as client:
        with _patiently("waiting for the coordinator: its nodes may have to measure themselves first"):
            report = await client.plan(query, PLAN_S)
    if not json:
        out.print(planned(report, out.width))
    return Plan.of(report)


@contextmanager
def _patiently(what: str) -> Iterator[None]:
    """Say what we are at if it takes long."""
    notice = Timer(PATIENCE_S, lambda: err.print(what, style="dim", markup=False))
    notice.start()
    try:
        yield
    finally:
        notice.cancel()
        notice.join()
