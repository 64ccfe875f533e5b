"""The model as the coordinator needs it: how many layers there are, and text to tokens and back. No weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nova.errors import ModelError
from nova.model.card import read_card
from nova.model.locate import locate
from nova.model.tokenizer import Tokenizer
from nova.plan.profiles import VOCABULARY, check_stages, find_profile, is_emulated
from nova.plan.split import check_split, even_split

UNLIMITED = 1 << 20
"""The context of a model that does not say its own."""


class TextStream(Protocol):
    """Tokens in, certain text out."""

    def add(self, token: int) -> str: ...
    def flush(self) -> str: ...


class Text(Protocol):
    """Text to tokens and back."""

    def encode(self, prompt: str, chat: bool) -> list[int]: ...
    def stream(self) -> TextStream: ...


@dataclass(frozen=True)
class ServedModel:
    """What is served. `context` is the most positions a request may take; `encoder` is for one thread at a time."""

    name: str
    layers: int
    vocabulary: int
    context: int
    stop_tokens: list[int]
    text: Text
    encoder: Text
    split: list[int]


def open_model(name: str, home: Path, stages: int, split: list[int]) -> ServedModel:
    """Read the model's card and tokenizer, and settle the split. Slow (a second): call it off the event loop.

    Raises ModelError and PlanError.
    """
    if is_emulated(name):
        profile = find_profile(name)
        chosen = split or list(profile.split)
        check_split(chosen, profile.layers, stages)
        check_stages(profile, chosen)
        return ServedModel(name, profile.layers, VOCABULARY, UNLIMITED, [], Bytes(), Bytes(), chosen)
    folder = locate(name, home)
    card = read_card(folder)
    chosen = split or even_split(card.layers, stages)
    check_split(chosen, card.layers, stages)
    text = Tokenizer.load(folder)
    stop = {*card.eos_token_ids, *([] if text.eos_token_id is None else [text.eos_token_id])}
    # Prompts are encoded in a thread of their own, and a tokenizer is not for two threads at once.
    encoder = Tokenizer.load(folder)
    context = card.context or UNLIMITED
    return ServedModel(name, card.layers, card.vocab_size, context, sorted(stop), text, encoder, chosen)


class Bytes:
    """The text of emulated models: a token is a byte."""

    def encode(self, prompt: str, chat: bool) -> list[int]:
        if chat:
            raise ModelError("an emulated model has no chat template: leave --chat out")
        return list(prompt.encode())

    def stream(self) -> ByteStream:
        return ByteStream()


class ByteStream:
    def add(self, token: int) -> str:
        return chr(token)

    def flush(self) -> str:
        return ""
