"""`nova transports`: what is installed here and what it can do, a new plugin, and whether one keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nova.cli import edge, options, scaffold
from nova.cli.inventory import inventory
from nova.cli.output import Scaffold, Transports, emit
from nova.cli.show import out
from nova.cli.show_transports import transports
from nova.config.load import load
from nova.errors import NovaError

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
