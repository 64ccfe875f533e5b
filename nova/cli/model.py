"""`nova model`: bring a model into the home's folder `models`, and look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from nova import paths
from nova.cli import edge, options
from nova.cli.output import Model, emit
from nova.cli.show import err, out
from nova.errors import ConfigError, NovaError
from nova.model.card import ModelCard, read_card
from nova.model.locate import locate

app = typer.Typer(no_args_is_help=True, help="Models on this machine.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A llama-family GGUF file (Q4_0, Q4_1, Q8_0, F16, F32).")],
    name: Annotated[str, typer.Option(help="Name in $NOVA_HOME/models; by default the file's.")] = "",
    out_: Annotated[Path | None, typer.Option("--out", help="Write to this folder instead.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float16, bfloat16 or keep; empty suits this machine.")] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace an existing model.")] = False,
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Turn a GGUF file into an mlx-lm model folder."""
    try:
        folder = _target(file, name, out_, options.home(config, set_))
        card = _import(file, folder, dtype or None, overwrite)
    except NovaError as error:
        edge.fail(error, json)
    _print(folder.name, folder, card, json)


@app.command()
def show(
    model: Annotated[str, typer.Argument(help="Folder, name in $NOVA_HOME/models, or hub id.")],
    config: options.Config = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Show what a model folder holds."""
    try:
        folder = locate(model, options.home(config, set_))
        card = read_card(folder)
    except NovaError as error:
        edge.fail(error, json)
    _print(model, folder, card, json)


def _target(file: Path, name: str, folder: Path | None, home: Path) -> Path:
    if name and folder:
        raise ConfigError("--name and --out exclude each other: a name is a folder in $NOVA_HOME/models")
    name = name or file.stem
    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"--name: {name!r} is a path; expected a plain name, or use --out")
    return folder or paths.ensure(paths.models(home)) / name


def _import(file: Path, folder: Path, dtype: str | None, overwrite: bool) -> ModelCard:
    from nova.model.gguf.importer import import_gguf  # imports MLX, which takes a while

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task(f"importing {file.name}", total=None)
        return import_gguf(
            file, folder, dtype, lambda done, total: progress.update(task, completed=done, total=total),
            overwrite=overwrite,
        )  # fmt: skip


def _print(name: str, folder: Path, card: ModelCard, json: bool) -> None:
    size = card.stage_bytes(0, card.layers)
    if json:
        emit(
            Model(
                name=name,
                folder=str(folder),
                model_type=card.model_type,
                layers=card.layers,
                hidden_size=card.hidden_size,
                vocab_size=card.vocab_size,
                weight_bytes=size,
            )
        )
        return
    out.print(f"{name}: {card.model_type}, {card.layers} layers, {size >> 20} MiB in {folder}", markup=False)
