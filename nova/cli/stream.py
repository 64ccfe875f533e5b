"""From a request's events to text on the terminal and one account at the end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from rich.markup import escape
from rich.status import Status as Spinner

from nova.cli.output import Output, Problem, Text
from nova.cli.show import err, out
from nova.control.client import Client
from nova.errors import ConfigError, NovaError
from nova.ids import new_request_id
from nova.wire.requests import Accepted, Completed, Generate, Piece, StatusReply
from nova.wire.work import Sampling

WATCH_S = 0.5


@dataclass
class Received:
    """What has come of a request so far."""

    prompt_tokens: int = 0
    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        self.pieces.append(piece.text)
        self.tokens.extend(piece.tokens)

    def complete(self, done: Completed) -> Text:
        """The text and its account."""
        return Text(
            text="".join(self.pieces),
            tokens=self.tokens,
            finish=done.finish,
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
            ttft_s=done.ttft_s,
            prefill_tok_s=done.prefill_tok_s,
            decode_tok_s=done.decode_tok_s,
            transport=done.transport,
            stages=done.stages,
            breakdown=done.breakdown,
        )

    def cut_off(self, reason: str) -> Output:
        """What there is, when no more will come."""
        if not self.tokens:
            return Problem(error=reason)
        return Text(
            text="".join(self.pieces),
            tokens=self.tokens,
            finish="error",
            prompt_tokens=self.prompt_tokens,
            completion_tokens=len(self.tokens),
            ttft_s=0.0,
            prefill_tok_s=0.0,
            decode_tok_s=0.0,
            transport="",
            stages=[],
            breakdown=[],
            error=reason,
        )


def ask(
    prompt: str, chat: bool, max_tokens: int, temperature: float, top_p: float, seed: int, deadline_s: float
) -> Generate:
    """The request; a prompt of "-" is read from standard input, without its last newline.

    Raises ConfigError when that is not text.
    """
    if prompt == "-":
        try:
            prompt = sys.stdin.read().removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"--prompt -: standard input is not UTF-8 text (byte {error.start})") from error
    sampling = Sampling(temperature, top_p, seed)
    return Generate(new_request_id(), prompt, max_tokens, sampling, chat, deadline_s)


async def follow(client: Client, generate: Generate, received: Received, quiet: bool) -> Text:
    """Print text as it comes, unless `quiet`, and return the account. What is awaited is shown meanwhile.

    What has come is in `received`, also after an error.
    """
    with err.status("waiting for the cluster") as spinner:
        watcher = asyncio.create_task(_watch(client, spinner))
        try:
            async with aclosing(client.generate(generate)) as events:
                async for event in events:
                    match event:
                        case Accepted():
                            received.prompt_tokens = event.prompt_tokens
                        case Piece():
                            spinner.stop()
                            received.add(event)
                            if not quiet:
                                out.out(event.text, end="", highlight=False)
                                out.file.flush()
                        case Completed():
                            if not quiet:
                                out.out("")
                            return received.complete(event)
        except NovaError:
            if received.pieces and not quiet:
                out.out("")
            raise
        finally:
            watcher.cancel()
    raise AssertionError("a generation ends with Completed or an error")


async def _watch(client: Client, spinner: Spinner) -> None:
    """Say which phase the cluster is in, until the first token takes the spinner away."""
    with suppress(NovaError):  # the request itself will report it
        while True:
            await asyncio.sleep(WATCH_S)
            spinner.update(escape(describe(await client.status())))


def describe(status: StatusReply) -> str:
    """One line on what the cluster is doing."""
    if status.state == "serving":
        return "reading the prompt"
    if status.state == "forming":
        phases = ", ".join(f"{each.node} {each.phase} {each.detail}".rstrip() for each in status.engines)
        over = f" over {status.transport}" if status.transport not in ("", "none") else ""  # one node has none
        return f"forming{over}: {phases}"
    if status.state == "opening":
        return "opening the model"
    if status.state == "planning":
        return "measuring the nodes, to plan where the layers go"
    missing = [node.name for node in status.nodes if node.state == "missing"]
    return f"waiting for {', '.join(missing)}" if missing else f"the deployment is {status.state}"
