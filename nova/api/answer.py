"""One answer of the model, as its parts come: what the APIs of turns share (Responses, Messages)."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from nova.api.ask import choices
from nova.api.output import Part, Splitter, Text
from nova.api.tools import ForcedCall
from nova.coordinator.port import Chat, Port, Prompt
from nova.model.dialect import Dialect
from nova.wire.requests import Accepted, Completed, Generate, Piece

Told = Accepted | Piece | Part | Completed


class Reader(Protocol):
    """`nova.api.output.Splitter`, or what reads a text in its place."""

    def add(self, text: str) -> list[Part]: ...
    def end(self, cut: bool = False) -> list[Part]: ...


class AfterThought:
    """Reasoning first, which the prompt has opened; the text after it goes to `reader`."""

    def __init__(self, dialect: Dialect, reader: Reader) -> None:
        self._splitter = Splitter(Dialect(dialect.thought), in_thought=True, once=True)
        self._reader = reader

    def add(self, text: str) -> list[Part]:
        return self._pass_on(self._splitter.add(text))

    def end(self, cut: bool = False) -> list[Part]:
        return self._pass_on(self._splitter.end()) + self._reader.end(cut)

    def _pass_on(self, parts: Sequence[Part]) -> list[Part]:
        read = (self._reader.add(part.text) if isinstance(part, Text) else [part] for part in parts)
        return [part for some in read for part in some]


def after_thought(constraint: str, dialect: Dialect) -> str:
    """A grammar of `nova.api.grammar` for the answer only: reasoning, open in the prompt, is free and ends first."""
    assert dialect.thought is not None
    schema = json.loads(constraint)["grammars"][0]["json_schema"]
    end = json.dumps(dialect.thought[1], ensure_ascii=False)
    rules = [
        "start: thought /\\s{0,4}/ answer",
        f"thought[suffix={end}]: /(?s:.*)/",
        f"answer: %json {json.dumps(schema)}",
    ]
    return "\n".join(rules)


async def opened(
    port: Port, dialect: Dialect, chat: Chat, constraint: str = "", forced: bool = False
) -> tuple[Prompt, str, Callable[[], Reader]]:
    """The prompt of a turn, its grammar, and what makes a reader of its text, one for each choice. `constraint` is the
    answer's grammar, `forced` says that it is that of a call (`nova.api.tools`). Raises ModelError."""
    prompt = await port.encode_chat(chat)

    def answering() -> Reader:
        return ForcedCall() if forced else Splitter(Dialect())

    if not constraint:
        return prompt, "", lambda: Splitter(dialect, prompt.in_thought, chat.tools)
    if not (prompt.in_thought and dialect.thought):
        return prompt, constraint, answering
    return prompt, after_thought(constraint, dialect), lambda: AfterThought(dialect, answering())


async def answer(port: Port, ask: Generate, reader: Reader) -> AsyncGenerator[Told, None]:
    """Accepted, each piece with the parts that became certain by it, and Completed. Raises ApiError.

    Use it in `contextlib.aclosing`.
    """
    async with aclosing(choices(port, [ask])) as events:
        async for _, event in events:
            match event:
                case Accepted():
                    yield event
                case Piece():
                    yield event
                    for part in reader.add(event.text):
                        yield part
                case Completed():
                    # Half a call may look whole where something else than the model ended it.
                    for part in reader.end(cut=event.finish != "stop" or bool(event.stopped_by)):
                        yield part
                    yield event
