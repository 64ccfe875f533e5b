"""Tiny random models in mlx-lm's folder layout, with a tokenizer, for tests that need a model that really runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VOCAB = 320
EOS = 1

_BASE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": EOS,
}

_SLIDING = {"sliding_window": 8}

KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-sliding": {"model_type": "llama", **_SLIDING},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 2,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    },
    "smollm3": {"no_rope_layer_interval": 2, "tie_word_embeddings": True},
    "olmo2": {},
    "olmo3": {**_SLIDING},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **_SLIDING},
    "ernie4_5": {"use_bias": True, "tie_word_embeddings": True},
    "exaone4": {"rope_scaling": None, "sliding_window": 8, "sliding_window_pattern": "LG"},
    "glm4": {"attention_bias": True, "partial_rotary_factor": 0.5},
    "starcoder2": {"norm_epsilon": 1e-5},
    "mimo": {"num_nextn_predict_layers": 0},
}
"""Each kind is a model type, or a variant that names its own."""

_ALTERNATING = ("llama-sliding", "olmo3", "gpt_oss")


def make_tiny(
    folder: Path, kind: str = "llama", seed: int = 0, layers: int = 4, dtype: str = "float32", **overrides: Any
) -> Path:
    """Write a random model of `kind` into the new `folder` and return it.

    `overrides` go into config.json. The same arguments give the same weights. Matrices are three times their usual
    scale, so that logits differ by far more than rounding and greedy tokens are stable.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.utils import _get_classes

    config = {**_BASE, "model_type": kind, "num_hidden_layers": layers, **KINDS[kind]}
    if kind in _ALTERNATING:
        pair = ("sliding_attention", "full_attention")
        config["layer_types"] = [pair[index % 2] for index in range(layers)]
    config.update(overrides)

    mx.random.seed(seed)
    model_class, args_class = _get_classes(config)
    model = model_class(args_class.from_dict(config))
    parameters: Any = tree_flatten(model.parameters())
    weights = {name: _scaled(mx, name, value, getattr(mx, dtype)) for name, value in parameters}
    # Only its own tensors: the folder is as a converted checkpoint would be.
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", config)
    _write_weights(mx, folder, weights)
    write_tokenizer(folder)
    return folder


def _scaled(mx: Any, name: str, value: Any, dtype: Any) -> Any:
    if not mx.issubdtype(value.dtype, mx.floating):
        return value
    plain = value.ndim < 2 or any(word in name for word in ("norm", "embed", "router", "mlp.gate.weight"))
    if value.ndim < 2 and "norm" not in name:
        value = mx.random.normal(value.shape) * 0.1  # biases and sinks start at zero, where a lost one is not seen
    return (value if plain else value * 3).astype(dtype)


def _write_weights(mx: Any, folder: Path, weights: dict[str, Any]) -> None:
    """Two files, cut in the middle of the list, so that a stage's layers do not coincide with a file."""
    names = sorted(weights)
    half = len(names) // 2
    index: dict[str, str] = {}
    for number, part in enumerate((names[:half], names[half:]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part}, metadata={"format": "mlx"})
        index.update(dict.fromkeys(part, file))
    total = sum(value.nbytes for value in weights.values())
    _write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": index})


def write_tokenizer(folder: Path, vocab: int = VOCAB) -> None:
    """A byte-level BPE of `vocab` tokens: two special tokens, all 256 bytes, a few merges, unused names to fill up."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    special = ["<|bos|>", "<|eos|>"]
    tokens = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("i", "n"), ("Ġ", "a"), ("Ã", "©"), ("e", "r"), ("o", "n")]
    tokens += [left + right for left, right in merges]
    tokens += [f"<unused{number}>" for number in range(vocab - len(tokens))]
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": special[0],
            "eos_token": special[1],
            "clean_up_tokenization_spaces": False,
            "model_max_length": 4096,
            "chat_template": "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] "
            "{{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
        },
    )


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
