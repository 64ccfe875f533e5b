"""From a request's events to text on the terminal and one account at the end."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing, suppress

from rich.markup import escape
from rich.status import Status as Spinner

from nova.cli.output import Text
from nova.cli.show import err, out
from nova.control.client import Client
from nova.errors import ConfigError, NovaError
from nova.ids import new_request_id
from nova.wire.messages import Accepted, Completed, Generate, Piece, Sampling, StatusReply

WATCH_S = 0.5


def ask(
    prompt: str, chat: bool, max_tokens: int, temperature: float, top_p: float, seed: int, deadline_s: float
) -> Generate:
    """The request; the prompt "-" is read from standard input. Raises ConfigError when that is not text."""
    if prompt == "-":
        try:
            prompt = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise ConfigError(f"--prompt -: standard input is not UTF-8 text (byte {error.start})") from error
    sampling = Sampling(temperature, top_p, seed)
    return Generate(new_request_id(), prompt, max_tokens, sampling, chat, deadline_s)


async def follow(client: Client, generate: Generate, quiet: bool) -> Text:
    """Print text as it comes, unless `quiet`, and return the account. What is awaited is shown meanwhile."""
    pieces: list[str] = []
    tokens: list[int] = []
    with err.status("waiting for the cluster") as spinner:
        watcher = asyncio.create_task(_watch(client, spinner))
        try:
            async with aclosing(client.generate(generate)) as events:
                async for event in events:
                    match event:
                        case Accepted():
                            pass
                        case Piece():
                            spinner.stop()
                            pieces.append(event.text)
                            tokens.extend(event.tokens)
                            if not quiet:
                                out.out(event.text, end="", highlight=False)
                                out.file.flush()
                        case Completed():
                            if not quiet:
                                out.out("")
                            return _text(event, "".join(pieces), tokens)
        except NovaError:
            if pieces and not quiet:
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
        return f"forming over {status.transport}: {phases}"
    if status.state == "opening":
        return "opening the model"
    missing = [node.name for node in status.nodes if node.state == "missing"]
    return f"waiting for {', '.join(missing)}" if missing else f"the deployment is {status.state}"


def _text(done: Completed, text: str, tokens: list[int]) -> Text:
    return Text(
        text=text,
        tokens=tokens,
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
