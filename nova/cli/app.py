"""The `nova` command and what belongs to it."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from nova import __version__
from nova.cli import chat, keys, model, plan, profile, remote, run, serve, sim, trace, transports
from nova.cli.schemas import OUTPUTS
from nova.cli.show import out

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
app.command("run")(run.command)
app.command("serve")(serve.command)
app.command("generate")(remote.generate)
app.command("chat")(chat.command)
app.command("status")(remote.status)
app.command("explain")(remote.explain)
app.command("trace")(trace.command)
app.command("plan")(plan.command)
app.command("profile")(profile.command)
app.command("sim")(sim.command)
app.add_typer(keys.app, name="keys")
app.add_typer(model.app, name="model")
app.add_typer(transports.app, name="transports")


@app.command()
def schema(name: Annotated[str, typer.Argument(help=f"One of {', '.join(OUTPUTS)}.")]) -> None:
    """Print the JSON Schema of a command's --json output."""
    if name not in OUTPUTS:
        raise typer.BadParameter(f"expected one of {', '.join(OUTPUTS)}")
    out.out(msgspec.json.format(msgspec.json.encode(msgspec.json.schema(OUTPUTS[name]))).decode(), highlight=False)


def _version(wanted: bool) -> None:
    if wanted:
        out.out(f"nova {__version__}")
        raise typer.Exit


@app.callback()
def nova(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """One language model over several machines, on the fastest link that really works."""
