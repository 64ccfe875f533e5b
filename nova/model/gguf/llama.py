"""The llama architecture: GGUF's names and figures in mlx_lm's words. Pure decisions on a header; no tensor is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose, pi
from typing import Any

from nova.errors import ModelError
from nova.model.gguf.read import GGUFHeader

ROPE_FACTORS = "rope_freqs.weight"

_KNOWN_KEYS = frozenset(
    "llama." + key
    for key in (
        "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon",
        "attention.value_length", "block_count", "context_length", "embedding_length", "feed_forward_length",
        "rope.dimension_count", "rope.freq_base", "rope.scaling.factor", "rope.scaling.type", "vocab_size",
    )
)  # fmt: skip

_LAYER_MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class Target:
    """Where a GGUF tensor goes: `parameter` of `module` in mlx_lm's model.

    `rope_heads` is the number of heads whose rows GGUF holds in the interleaved order of rotary pairs, else 0.
    """

    module: str
    parameter: str
    shape: tuple[int, ...]
    rope_heads: int = 0


@dataclass(frozen=True)
class Llama:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab: int
    tied: bool
    attention_bias: bool


def read_llama(header: GGUFHeader) -> Llama:
    """The model's figures. Raises ModelError for another architecture or a feature that is not imported."""
    architecture = header.require("general.architecture", str)
    if architecture != "llama":
        raise ModelError(f"{header.path}: architecture {architecture!r}; only 'llama' can be imported")
    strange = sorted(key for key in header.metadata if key.startswith("llama.") and key not in _KNOWN_KEYS)
    if strange:
        raise ModelError(f"{header.path}: uses {', '.join(strange)}, which the import does not know")
    hidden = _count(header, "embedding_length")
    heads = _count(header, "attention.head_count")
    head_dim = _count(header, "attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if (value := _count(header, key, head_dim)) != head_dim:
            raise ModelError(f"{header.path}: llama.{key} is {value}, expected the head size {head_dim}")
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None:
        raise ModelError(f"{header.path}: has no tensor token_embd.weight")
    layers = _count(header, "block_count")
    if layers * len(_LAYER_MODULES) > len(header.tensors):
        # Also bounds the work below, which grows with a number that stands in the file.
        raise ModelError(f"{header.path}: {len(header.tensors)} tensors are too few for {layers} layers")
    return Llama(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=_count(header, "attention.head_count_kv", heads),
        head_dim=head_dim,
        feed_forward=_count(header, "feed_forward_length"),
        vocab=embedding.shape[0],
        tied="output.weight" not in header.tensors,
        attention_bias="blk.0.attn_q.bias" in header.tensors,
    )


def targets(header: GGUFHeader, llama: Llama) -> dict[str, Target]:
    """Where each tensor goes, in the order of the model. Raises ModelError on missing, strange or misshapen tensors."""
    expected = {"token_embd.weight": Target("model.embed_tokens", "weight", (llama.vocab, llama.hidden))}
    for index in range(llama.layers):
        expected.update(_layer(index, llama))
    expected["output_norm.weight"] = Target("model.norm", "weight", (llama.hidden,))
    if not llama.tied:
        expected["output.weight"] = Target("lm_head", "weight", (llama.vocab, llama.hidden))
    if missing := [name for name in expected if name not in header.tensors]:
        raise ModelError(f"{header.path}: tensor {missing[0]} is missing ({len(missing)} in all)")
    if strange := sorted(header.tensors.keys() - expected.keys() - {ROPE_FACTORS}):
        raise ModelError(f"{header.path}: tensor {strange[0]} is not part of a llama model ({len(strange)} in all)")
    for name, target in expected.items():
        tensor = header.tensors[name]
        if tensor.shape != target.shape:
            raise ModelError(f"{header.path}: tensor {name} has shape {tensor.shape}, expected {target.shape}")
        if len(tensor.shape) == 1 and tensor.type not in ("F32", "F16"):
            raise ModelError(f"{header.path}: tensor {name} is of type {tensor.type}, expected F32 or F16")
    return expected


def config(header: GGUFHeader, llama: Llama, factors: Sequence[float] | None) -> dict[str, Any]:
    """mlx_lm's config.json. `factors` are the values of rope_freqs.weight if the file has it."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": llama.hidden,
        "num_hidden_layers": llama.layers,
        "intermediate_size": llama.feed_forward,
        "num_attention_heads": llama.heads,
        "num_key_value_heads": llama.kv_heads,
        "head_dim": llama.head_dim,
        "vocab_size": llama.vocab,
        "rms_norm_eps": header.require("llama.attention.layer_norm_rms_epsilon", float),
        "max_position_embeddings": _count(header, "context_length"),
        "rope_theta": header.get("llama.rope.freq_base", float, 10000.0),
        "rope_scaling": _rope_scaling(header, llama, factors),
        "attention_bias": llama.attention_bias,
        "mlp_bias": False,
        "tie_word_embeddings": llama.tied,
    }


def _layer(index: int, llama: Llama) -> dict[str, Target]:
    q, kv = llama.heads * llama.head_dim, llama.kv_heads * llama.head_dim
    hidden, wide = llama.hidden, llama.feed_forward
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm": (hidden,), "ffn_norm": (hidden,),
        "attn_q": (q, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden), "attn_output": (hidden, q),
        "ffn_gate": (wide, hidden), "ffn_up": (wide, hidden), "ffn_down": (hidden, wide),
    }  # fmt: skip
    rope = {"attn_q": llama.heads, "attn_k": llama.kv_heads}
    layer: dict[str, Target] = {}
    for name, part in _LAYER_MODULES.items():
        module, rope_heads = f"model.layers.{index}.{part}", rope.get(name, 0)
        layer[f"blk.{index}.{name}.weight"] = Target(module, "weight", shapes[name], rope_heads)
        if llama.attention_bias and name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            layer[f"blk.{index}.{name}.bias"] = Target(module, "bias", shapes[name][:1], rope_heads)
    return layer


def _rope_scaling(header: GGUFHeader, llama: Llama, factors: Sequence[float] | None) -> dict[str, Any] | None:
    kind = header.get("llama.rope.scaling.type", str, "none")
    if kind not in ("none", "linear"):
        raise ModelError(f"{header.path}: rope scaling {kind!r}; only 'linear' can be imported")
    if factors is not None:
        if kind != "none":
            raise ModelError(f"{header.path}: has both {ROPE_FACTORS} and rope scaling {kind!r}")
        return _llama3(header, llama, factors)
    if kind == "none":
        return None
    return {"type": "linear", "factor": header.require("llama.rope.scaling.factor", float)}


def _llama3(header: GGUFHeader, llama: Llama, factors: Sequence[float]) -> dict[str, Any]:
    """GGUF keeps the finished factors per frequency, mlx_lm the rule behind them: find the rule, and check it."""
    base = header.get("llama.rope.freq_base", float, 10000.0)
    scale, low, high, length = max(factors), 1.0, 4.0, 8192
    expected = []
    for index in range(llama.head_dim // 2):
        turns = length / (2 * pi * base ** (2 * index / llama.head_dim))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        expected.append(1 / ((1 - smooth) / scale + smooth))
    fits = len(expected) == len(factors)
    if not fits or not all(isclose(a, b, rel_tol=1e-3) for a, b in zip(expected, factors, strict=True)):
        raise ModelError(f"{header.path}: the factors in {ROPE_FACTORS} are not those of llama 3")
    return {
        "rope_type": "llama3",
        "factor": scale,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }


def _count(header: GGUFHeader, key: str, default: int | None = None) -> int:
    key = f"llama.{key}"
    value = header.require(key, int) if default is None else header.get(key, int, default)
    if not 1 <= value <= 1 << 31:
        raise ModelError(f"{header.path}: {key} is {value}")
    return value
