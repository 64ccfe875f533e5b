"""The planner's figures from a model that mlx_lm has built and nothing has evaluated.

mlx_lm maps the tensors, so that only their headers are read; what its caches hold is read off the shapes of a traced
run, in which MLX refuses to compute anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.quantized import QuantizedEmbedding
from mlx.utils import tree_flatten

from nova.errors import ModelError
from nova.model.figures_caches import CacheSize, cache_sizes
from nova.model.files import read_json
from nova.model.stage import load_lazily
from nova.plan.inputs import Layer, ModelFigures

EXPERTS_KEYS = (
    "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_top_k", "moe_k", "top_k",
)  # fmt: skip
"""What configurations call the number of experts that one position chooses."""
CONTEXT_KEYS = ("max_position_embeddings", "max_sequence_length", "max_seq_len", "n_positions", "n_ctx", "seq_length")
_LISTED_EXPERT = re.compile(r"^(.*\bexperts)\.\d+(?:\.|$)")


@dataclass(frozen=True)
class _Weight:
    """A tensor of a module: `share` of it is read for one position, `flops` are done with what is read."""

    name: str
    module: Module
    value: mx.array
    share: float = 1.0

    @property
    def read_bytes(self) -> float:
        return self.value.nbytes * self.share

    @property
    def flops(self) -> float:
        return 2.0 * self.share * _numbers(self.module, self.value) if self.value.ndim > 1 else 0.0


def built_figures(folder: Path) -> ModelFigures:
    """See `nova.model.figures.figures`."""
    try:
        return _figures(folder)
    except ModelError as error:
        raise error if str(folder) in str(error) else ModelError(f"{folder}: {error}") from error
    except SystemExit as error:  # mlx_lm's olmo leaves the process where a package of its own is not installed
        raise ModelError(f"{folder}: mlx_lm needs a package for this architecture that is not installed") from error


def _figures(folder: Path) -> ModelFigures:
    model, caches = load_lazily(folder)
    defaults = getattr(model, "args", None) or getattr(model, "config", None)  # the architecture's own
    config = {**getattr(defaults, "__dict__", {}), **read_json(folder / "config.json")}
    layers: list[Module] = list(model.layers)
    weights = [list(_weights(layer, config, index)) for index, layer in enumerate(layers)]
    inside = {id(weight.value) for layer in weights for weight in layer}
    ends = [weight for weight in _weights(model, config, 0) if id(weight.value) not in inside]
    embedding = [weight for weight in ends if _is_embedding(weight.module)]
    head = [weight for weight in ends if not _is_embedding(weight.module)]
    words = [weight for weight in embedding if weight.name.endswith("weight")]
    if not words:
        raise ModelError(f"{folder}: the model that mlx_lm builds has no embedding")
    widest = max(words, key=lambda weight: weight.value.shape[0])
    rows, numbers = widest.value.shape[0], _numbers(widest.module, widest.value)
    tied = not any(weight.value.ndim == 2 and weight.value.shape[0] == rows for weight in head)
    passes = max(1, len(caches) // len(layers))  # a looped model goes through its layers again, with other caches
    width = _width(weights[0])
    sizes = cache_sizes(model, layers, caches, lambda: _plain_token_bytes(config, width))
    return ModelFigures(
        name=folder.name,
        layers=tuple(_layer(*each, passes) for each in zip(weights, sizes, strict=True)),
        embedding_bytes=sum(weight.value.nbytes for weight in embedding),
        head_bytes=sum(weight.value.nbytes for weight in head),
        head_flops=sum(weight.flops for weight in head) + (2.0 * numbers if tied else 0.0),
        tied=tied,
        hidden_bytes=numbers // rows * width,
        context=next(_found(config, CONTEXT_KEYS), 0),
    )


def _plain_token_bytes(config: dict[str, Any], width: int) -> int:
    """Keys and values of one position in one layer: 2 x heads x numbers of each x their width. Raises ModelError."""
    if any(_found(config, ("kv_lora_rank",))):
        raise ModelError("its caches hold latents, whose size cannot be told from config.json alone")
    heads = next(_found(config, ("num_attention_heads", "n_heads")), None)
    kv_heads = next(_found(config, ("num_key_value_heads", "kv_n_heads")), heads)
    hidden = next(_found(config, ("hidden_size", "d_model")), None)
    size = next(_found(config, ("head_dim",)), hidden // heads if heads and hidden else None)
    if not isinstance(kv_heads, int) or not isinstance(size, int):
        raise ModelError("config.json does not tell key and value heads: no num_attention_heads, hidden_size, head_dim")
    return 2 * kv_heads * size * width


def _layer(weights: Sequence[_Weight], size: CacheSize, passes: int) -> Layer:
    return Layer(
        weight_bytes=sum(weight.value.nbytes for weight in weights),
        read_bytes=round(passes * sum(weight.read_bytes for weight in weights)),
        flops=passes * sum(weight.flops for weight in weights),
        kv_token_bytes=size.token_bytes,
        kv_fixed_bytes=size.fixed_bytes,
        window=size.window,
    )


def _weights(root: Module, config: dict[str, Any], layer: int) -> Iterator[_Weight]:
    modules = dict(root.named_modules())  # type: ignore[no-untyped-call]
    named: Any = tree_flatten(root.parameters())  # type: ignore[no-untyped-call]
    for name, value in named:
        owner = name.rpartition(".")[0]
        while owner not in modules:  # an array in a list or a dict of its module
            owner = owner.rpartition(".")[0]
        yield _Weight(name, modules[owner], value, _share(modules, owner, value, config, layer))


def _share(modules: dict[str, Module], owner: str, value: mx.array, config: dict[str, Any], layer: int) -> float:
    """The share of a tensor that one position reads. Raises ModelError."""
    from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

    module = modules[owner]
    if _is_embedding(module):
        return 1 / value.shape[0]
    if isinstance(module, (SwitchLinear, QuantizedSwitchLinear)):
        experts = value.shape[0]
    elif listed := _LISTED_EXPERT.match(owner):
        experts = sum(re.fullmatch(rf"{re.escape(listed[1])}\.\d+", name) is not None for name in modules)
    else:
        return 1.0
    chosen = next(_found(config, EXPERTS_KEYS), None)
    if isinstance(chosen, list):  # one for each layer
        chosen = chosen[layer] if layer < len(chosen) else None
    if not isinstance(chosen, int) or chosen < 1:
        raise ModelError(
            f"config.json does not say how many of {experts} experts a position takes: it has none of "
            f"{', '.join(EXPERTS_KEYS)}"
        )
    return min(1.0, chosen / experts)


def _found(config: dict[str, Any], keys: Sequence[str]) -> Iterator[Any]:
    """The values of `keys`, in their order, in a configuration and the tables inside it."""
    tables = [config, *(value for value in config.values() if isinstance(value, dict))]
    for key in keys:
        yield from (table[key] for table in tables if table.get(key) is not None)


def _is_embedding(module: Module) -> bool:
    return isinstance(module, (Embedding, QuantizedEmbedding))


def _numbers(module: Module, value: mx.array) -> int:
    """How many numbers a tensor stands for; those that only scale a quantised one do not count."""
    bits = getattr(module, "bits", None)
    if value.dtype == mx.uint32 and isinstance(bits, int):
        return value.size * 32 // bits
    if value.dtype == mx.uint8:  # BitNet's, four in a byte; else the exponents of a quantised tensor
        return 0 if bits else value.size * 4
    scales = bits is not None and value is not getattr(module, "weight", None)
    return 0 if scales else value.size


def _width(weights: Sequence[_Weight]) -> int:
    """Bytes of a number of the hidden state: as wide as the first layer's floating weights."""
    return next(each.value.dtype.size for each in weights if mx.issubdtype(each.value.dtype, mx.floating))
