"""`nova transports`: what is installed here and what it can do, a new plugin, and whether one keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nova.cli import edge, options, scaffold
from nova.cli.inventory import inventory
from nova.cli.output import Checked, Scaffold, Transports, emit
from nova.cli.remote import connect
from nova.cli.show import out
from nova.cli.show_check import Progress, summary
from nova.cli.show_transports import transports
from nova.config.load import load
from nova.errors import NovaError

if TYPE_CHECKING:
    from nova.cli.check import Wanted

app = typer.Typer(invoke_without_command=True)


@app.callback()
def listed(
    context: typer.Context, config: options.Config = None, set_: options.Set = None, json: options.Json = False
) -> None:
    """List the transport plugins of this machine: what each can do here, or why not, and its options."""
    if context.invoked_subcommand is None:
        edge.run(_listed(config, set_ or [], json), json)


async def _listed(config: Path | None, settings: list[str], json: bool) -> Transports:
    found = await inventory(load(config, settings).transport)
    if not json:
        out.print(transports(found))
    return found


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The transport's name, as in transport.order.")],
    in_: Annotated[Path, typer.Option("--in", help="Where the plugin's folder is made.")] = Path(),
    json: options.Json = False,
) -> None:
    """Write a working plugin to start from: a distribution that passes the conformance kit."""
    try:
        folder, files = scaffold.write(name, in_)
    except NovaError as error:
        edge.fail(error, json)
    if json:
        emit(Scaffold(name=name, folder=str(folder), files=[str(file.relative_to(folder)) for file in files]))
        return
    out.print(f"wrote {len(files)} files to {folder}. Go on with:", markup=False, soft_wrap=True)
    for line in (f"cd {folder}", "pip install -e '.[test]'", "python -m pytest", f"nova transports check {name}"):
        out.print(f"  {line}", markup=False, soft_wrap=True)


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="The transport's name.")],
    on: Annotated[str, typer.Option(help="Nodes of the running cluster, as in a,b; empty stays on this machine.")] = "",
    case: Annotated[
        list[str] | None, typer.Option(help="Only cases whose names begin so, as T or F8_; may be repeated.")
    ] = None,
    slow: Annotated[bool, typer.Option(help="Also the cases that need much time or memory.")] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Hold a transport to the contract, case by case. The exit status is 1 when it breaks a clause."""
    from nova.cli import check as kit  # importing all cases takes a while

    wanted = kit.Wanted(case or [], slow)
    with Progress(quiet=json) as progress:
        if on:
            checked = edge.run(_checked_on(on, name, wanted, config, set_ or [], progress), json)
        else:
            checked = _checked_here(name, wanted, config, set_ or [], progress, json)
    if not json:
        out.print(summary(checked.report))
    if checked.report.count("failed"):
        raise typer.Exit(1)


def _checked_here(
    name: str, wanted: Wanted, config: Path | None, settings: list[str], progress: Progress, json: bool
) -> Checked:
    """Not on an event loop, so that an interrupt ends the case under way, with its processes, at once."""
    from nova.cli import check as kit

    try:
        report = kit.here(name, load(config, settings).transport, wanted, progress)
    except NovaError as error:
        edge.fail(error, json)
    checked = Checked(nodes=[], report=report)
    if json:
        emit(checked)
    return checked


async def _checked_on(
    on: str, name: str, wanted: Wanted, config: Path | None, settings: list[str], progress: Progress
) -> Checked:
    from nova.cli import check as kit

    nodes = kit.places(on)
    async with connect(config, settings) as client:
        return Checked(nodes=nodes, report=await kit.on(client, name, nodes, wanted, progress))
