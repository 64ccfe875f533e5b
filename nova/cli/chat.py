"""`nova chat`: a conversation in the terminal, with any server that has OpenAI's API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from nova.cli import edge, interrupt, options
from nova.cli.chat_commands import Commands
from nova.cli.chat_reply import Reply
from nova.cli.chat_server import Server
from nova.cli.conversation import Conversation, account
from nova.cli.output import emit
from nova.cli.show import err, out
from nova.clock import Clock, monotonic
from nova.errors import ConfigError, NovaError

PROMPT = "> "
URL = "http://127.0.0.1:29280"

# What moves a terminal's cursor or changes its title is not text; the answer of a model may hold anything.
_UNPRINTABLE = {code: None for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def command(
    url: Annotated[str, typer.Option(help="Root of a server with OpenAI's API.")] = URL,
    api_key: Annotated[
        str, typer.Option(envvar="NOVA_API_KEY", help="Its key; the environment hides it from other users.")
    ] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="The model; by default the first that it serves.")] = "",
    system: Annotated[str, typer.Option(help="The system prompt.")] = "",
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", "-n", min=1, help="Most tokens per answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, max=100.0, help="By default the model's own.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same text.")] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="PEM file of whom to trust for https.")] = None,
    silent: Annotated[float, typer.Option(min=1.0, help="Seconds of silence after which it counts as lost.")] = 600.0,
    json: options.Json = False,
) -> None:
    """Chat in the terminal. Ctrl-C stops an answer, and at the prompt it ends the chat; /help lists the commands.

    Without a terminal each line of standard input is a message, and reasoning is not shown.
    """
    given = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    conversation = Conversation(system, {name: value for name, value in given.items() if value is not None})
    try:
        with interrupt.raised(), closing(Server(url, api_key, ca, silent)) as server:
            chat = Chat(server, model or server.model(), conversation, json)
            failed = chat.run()
    except NovaError as error:
        edge.fail(error, json)
    except KeyboardInterrupt:
        raise typer.Exit(interrupt.INTERRUPTED) from None
    if failed:
        raise typer.Exit(1)


class Chat:
    """One conversation with one server, until there are no more lines."""

    def __init__(
        self, server: Server, model: str, conversation: Conversation, json: bool, clock: Clock = monotonic
    ) -> None:
        self._server = server
        self._model = model
        self._conversation = conversation
        self._json = json
        self._clock = clock
        self._commands = Commands(conversation)
        self._terminal = sys.stdin.isatty() and not json
        self._failed = False

    def run(self) -> bool:
        """Whether anything failed where nobody sits who saw it: standard input is no terminal."""
        if self._terminal:
            err.print(f"{self._model} at {self._server.url}; /help lists the commands", style="dim", markup=False)
        try:
            for line in _lines(self._terminal):
                if not self._take(line):
                    break
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            err.print()
        return self._failed and not self._terminal

    def _take(self, line: str) -> bool:
        """One line of the user; False ends the chat."""
        question = line.strip()
        if question.startswith("/") and not question.startswith("//"):
            try:
                effect = self._commands.run(question)
            except ConfigError as error:
                self._complain(error)
                return True
            if effect.say:
                err.print(effect.say, style="dim", markup=False, soft_wrap=True)
            if not effect.ask:
                return not effect.quit
            question = effect.ask
        elif question.startswith("//"):
            question = question[1:]
        if question:
            self._ask(question)
        return True

    def _ask(self, question: str) -> None:
        conversation = self._conversation
        conversation.asked = question
        reply, error = Reply(self._clock()), ""
        try:
            with closing(self._server.ask(self._model, conversation.messages(question), conversation.settings)) as came:
                for event in came:
                    self._show(*reply.add(event, self._clock()), reply)
        except KeyboardInterrupt:  # leaving the block has hung up, and so ended the request
            reply.finish = "cancelled"
            if not self._terminal:
                raise
        except NovaError as failure:
            error = str(failure)
            self._complain(failure, fresh=bool(reply.pieces))
        answer = reply.answer(self._model, error)
        conversation.answered(question, answer)
        if self._json:
            emit(answer, compact=True)
        elif not error:
            out.out("")
            err.print(account(answer), style="dim", markup=False, soft_wrap=True)

    def _show(self, thought: str, text: str, reply: Reply) -> None:
        if self._json:
            return
        if thought and self._terminal:
            out.out(thought.translate(_UNPRINTABLE), end="", style="dim", highlight=False)
        if text:
            if self._terminal and reply.reasoning and reply.text == text:  # the first text after the reasoning
                out.out("\n")
            out.out(text.translate(_UNPRINTABLE) if out.is_terminal else text, end="", highlight=False)
        out.file.flush()

    def _complain(self, error: NovaError, fresh: bool = False) -> None:
        self._failed = True
        if fresh and not self._json:
            out.out("")
        err.print("[bold red]error[/bold red] ", end="")
        err.print(str(error), markup=False, soft_wrap=True)


def _lines(terminal: bool) -> Iterator[str]:
    """What the user types, with the editing of readline, or the lines of standard input. Raises ConfigError."""
    if not terminal:
        try:
            yield from sys.stdin
        except UnicodeDecodeError as error:
            raise ConfigError(f"standard input is not UTF-8 text (byte {error.start})") from error
        return
    import readline  # noqa: F401 - `input` uses it once it is imported

    while True:
        try:
            yield input(PROMPT if out.is_terminal else "")
        except EOFError:
            err.print()
            return
