"""The fake port with a model that reasons and calls tools, and says exactly the pieces that a test gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nova.coordinator.port import Event
from nova.model.dialect import Call, Dialect
from nova.wire.requests import Accepted, Completed, Failed, Generate, Piece
from tests.unit.api.fake import FakePort, served


def parse(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
    return [json.loads(text)]


DIALECT = Dialect(("<think>", "</think>"), ("<tool_call>", "</tool_call>"), parse)


@dataclass
class Script(FakePort):
    """`says` are the model's pieces, of one token each; then it fails, or ends as `finish` and `stopped_by` say."""

    says: Sequence[str] = ()
    stopped_by: str = ""
    breaks: str = ""
    dialect: Dialect = field(default=DIALECT)

    def play(self, *says: str, **rest: Any) -> Script:
        """What it says from now on, and all else as in the beginning."""
        vars(self).update(vars(Script(says=says, **rest)))
        return self

    @property
    def last_chat(self) -> list[Mapping[str, Any]]:
        return list(self.chats[-1].messages)

    def _answer(self, generate: Generate) -> Iterator[Event]:
        if self.failure is not None or self.held:
            yield from super()._answer(generate)
            return
        name, read, written = generate.request, len(generate.prompt), len(self.says)
        yield Accepted(name, read)
        for text in self.says:
            yield Piece(name, [1], text)
        if self.breaks:
            yield Failed(name, self.breaks, written)
        else:
            finish, cached, stopped_by = self.finish, self.cached, self.stopped_by
            yield Completed(name, finish, read, written, 0.1, 1.0, 1.0, "tcp", [], [], cached, stopped_by)


BUSY = Failed("r", "no room", code="busy", retry_after_s=3.0)


@contextmanager
def serving() -> Iterator[tuple[Script, str]]:
    """The port and the address of a real server."""
    script = Script()
    with served(script) as url:
        yield script, url
