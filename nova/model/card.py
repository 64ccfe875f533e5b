"""What a model folder holds, read without loading it: enough to plan a split and to stop a generation. No MLX."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from nova.errors import ModelError
from nova.model.files import TensorInfo, read_headers, read_json

_T = TypeVar("_T")
_Count = Annotated[int, Meta(ge=1, le=1 << 40)]
_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|tok_embeddings|word_embeddings|wte)\.")


class Quantisation(msgspec.Struct, frozen=True):
    """The model's default; single tensors may differ."""

    bits: int
    group_size: int


class ModelCard(msgspec.Struct, frozen=True):
    """A model in figures. Sizes are bytes of weights as they lie on disk, which is what they take in memory."""

    model_type: str
    layers: int
    hidden_size: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    """From config.json, overridden by generation_config.json, as mlx_lm reads them; the tokenizer may name one more."""
    layer_bytes: tuple[int, ...]
    embedding_bytes: int
    head_bytes: int
    """The last norm and the output projection; a tied projection is the embedding and not counted here."""
    tied: bool
    quantisation: Quantisation | None
    context: int | None = None
    """Most positions of one text; None when the configuration does not say."""

    def stage_bytes(self, first: int, last: int) -> int:
        """Weights of a stage that owns layers [first, last), with the embedding and head that it needs."""
        total = sum(self.layer_bytes[first:last])
        if last == self.layers:
            total += self.head_bytes
        if first == 0 or (self.tied and last == self.layers):
            total += self.embedding_bytes
        return total


class _Config(msgspec.Struct):
    model_type: str
    num_hidden_layers: Annotated[int, Meta(ge=1, le=100_000)]
    hidden_size: _Count
    vocab_size: _Count
    eos_token_id: int | list[int] | None = None
    tie_word_embeddings: bool | None = None
    max_position_embeddings: Annotated[int, Meta(ge=1)] | None = None
    quantization: dict[str, Any] | None = None


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder. Raises ModelError that names the file and what is wrong with it."""
    path = folder / "config.json"
    config = _typed(path, _config_of(folder), _Config)
    tensors = read_headers(folder)
    # Some architectures tie by default and drop a stored projection; where the file is silent, the tensors decide.
    tied = config.tie_word_embeddings
    if tied is None:
        tied = not any(name.startswith("lm_head.") or ".lm_head." in name for name in tensors)
    layers, embedding, head = _sizes(tensors, config.num_hidden_layers, tied)
    if 0 in layers:
        raise ModelError(f"{folder}: {path.name} says {len(layers)} layers, layer {layers.index(0)} has no weights")
    quantisation = None if config.quantization is None else _typed(path, config.quantization, Quantisation)
    eos = config.eos_token_id
    return ModelCard(
        model_type=config.model_type,
        layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        eos_token_ids=() if eos is None else (eos,) if isinstance(eos, int) else tuple(eos),
        layer_bytes=tuple(layers),
        embedding_bytes=embedding,
        head_bytes=head,
        tied=tied,
        quantisation=quantisation,
        context=config.max_position_embeddings,
    )


def _config_of(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "config.json")
    generation = folder / "generation_config.json"
    if generation.exists():
        # mlx_lm tests for truth, not for presence: an id of 0 or an empty list does not override.
        override = read_json(generation).get("eos_token_id")
        if override:
            config["eos_token_id"] = override
    return config


def _sizes(tensors: dict[str, TensorInfo], count: int, tied: bool) -> tuple[list[int], int, int]:
    layers, embedding, head = [0] * count, 0, 0
    for name, tensor in tensors.items():
        if match := _LAYER.search(name):
            # Layers past the count are draft heads (multi-token prediction), which mlx_lm drops.
            if (index := int(match[1])) < count:
                layers[index] += tensor.nbytes
        elif _EMBEDDING.search(name):
            embedding += tensor.nbytes
        elif not (tied and "lm_head" in name):
            head += tensor.nbytes
    return layers, embedding, head


def _typed(path: Path, value: dict[str, Any], kind: type[_T]) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ModelError(f"{path}: {error}") from error
