"""The model as the coordinator needs it: how many layers there are, and text to tokens and back. No weights."""

from __future__ import annotations

import codecs
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from nova.errors import ModelError, PlanError
from nova.model.card import read_card
from nova.model.dialect import Dialect
from nova.model.files import read_json
from nova.model.locate import locate, served_name
from nova.model.tokenizer import Tokenizer, well_formed
from nova.plan.profiles import VOCABULARY, check_stages, find_profile, is_emulated
from nova.plan.split import check_split, even_split

UNLIMITED = 1 << 20
"""The context of a model that does not say its own."""


class _Recommended(msgspec.Struct, omit_defaults=True):
    """What a model's generation_config.json may say of sampling, and is handed on, in `Sampling`'s types."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None


class TextStream(Protocol):
    """Tokens in, certain text out."""

    def add(self, token: int) -> str: ...
    def flush(self) -> str: ...


class Text(Protocol):
    """Text to tokens and back. Raises ModelError."""

    dialect: Dialect

    def encode(self, prompt: str, chat: bool) -> list[int]: ...

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], bool]: ...

    def decode(self, ids: list[int]) -> str: ...
    def stream(self) -> TextStream: ...


@dataclass(frozen=True)
class ServedModel:
    """What is served. `context` is the most positions a request may take; `text` is the event loop's, `encoder` for one
    other thread. `created` is when it was opened, in Unix seconds; `sampling` what the model recommends."""

    name: str
    layers: int
    vocabulary: int
    context: int
    stop_tokens: list[int]
    text: Text
    encoder: Text
    split: list[int]
    created: int = 0
    sampling: Mapping[str, float] = field(default_factory=dict)


def open_model(name: str, home: Path, stages: int, split: list[int] | None) -> ServedModel:
    """Read the model's card and tokenizer, and settle the split: an even one if it is empty. If it is None a plan is to
    find it, and there is none yet. Slow (a second): call it off the event loop.

    Raises ModelError and PlanError.
    """
    created = int(time.time())
    if is_emulated(name):
        profile = find_profile(name)
        if split is None and not profile.divisible:
            raise PlanError(f'{name} has times for one split only: plan.strategy must be "manual" for it')
        chosen = [] if split is None else split or profile.stages(stages)
        if split is not None:
            check_split(chosen, profile.layers, stages)
            check_stages(profile, chosen)
        return ServedModel(name, profile.layers, VOCABULARY, UNLIMITED, [], Bytes(), Bytes(), chosen, created)
    folder = locate(name, home)
    card = read_card(folder)
    chosen = [] if split is None else split or even_split(card.layers, stages)
    if split is not None:
        check_split(chosen, card.layers, stages)
    text = Tokenizer.load(folder)
    stop = {*card.eos_token_ids, *([] if text.eos_token_id is None else [text.eos_token_id])}
    # Prompts are encoded in a thread of their own, and a tokenizer is not for two threads at once.
    encoder = Tokenizer.load(folder)
    context = card.context or UNLIMITED
    return ServedModel(
        served_name(name), card.layers, card.vocab_size, context, sorted(stop), text, encoder, chosen, created,
        _recommended(folder / "generation_config.json"),
    )  # fmt: skip


def _recommended(path: Path) -> dict[str, float]:
    """How the model's authors would sample from it. Raises ModelError for what is not a number."""
    if not path.exists():
        return {}
    try:
        said: dict[str, float] = msgspec.to_builtins(msgspec.convert(read_json(path), _Recommended))
        return said
    except msgspec.ValidationError as error:
        raise ModelError(f"{path}: {error}") from error


class Bytes:
    """The text of emulated models: a token is a byte, and a conversation the texts in it."""

    dialect = Dialect()

    def encode(self, prompt: str, chat: bool) -> list[int]:
        if not well_formed(prompt):
            raise ModelError("the prompt is not Unicode text: it has half of a surrogate pair")
        return list(prompt.encode())

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> tuple[list[int], bool]:
        return self.encode("\n".join(str(each.get("content") or "") for each in messages), chat=True), False

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")

    def stream(self) -> ByteStream:
        return ByteStream()


class ByteStream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(bytes([token]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)
