"""Options that several commands share, with one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nova import paths
from nova.config.load import load

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="The text to go on from; - reads standard input.")]
Chat = Annotated[bool, typer.Option("--chat", help="Apply the model's chat template to the prompt.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option(min=0.0, max=100.0, help="0 always takes the likeliest token.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample among the likeliest tokens of this total.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text.")]
Deadline = Annotated[float, typer.Option("--deadline", min=1.0, help="Seconds after which the request is given up.")]
Config = Annotated[Path | None, typer.Option("--config", help="Configuration file; see conf/nova.toml.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="key=value over the configuration; may be repeated.")]


def home(config: Path | None, settings: list[str] | None) -> Path:
    """The home folder of the node that these options describe. Raises ConfigError."""
    return paths.home(load(config, settings or []).home)
