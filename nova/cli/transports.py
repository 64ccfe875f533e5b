"""`nova transports`: what is installed here and what it can do, a new plugin, and whether one keeps its promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nova.cli import edge, options, scaffold
from nova.cli.output import Scaffold, emit
from nova.cli.show import out
from nova.errors import NovaError

app = typer.Typer(help="Transport plugins: list them, start one, check one.")


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
