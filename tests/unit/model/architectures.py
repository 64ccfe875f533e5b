"""Tiny random models of as many of mlx_lm's architectures as one table of usual values builds."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any

LAYERS = 6
USUAL: dict[str, Any] = {
    # sizes
    "hidden_size": 64, "d_model": 64, "n_embd": 64, "n_embed": 64, "hidden_dim": 64, "block_dim": 64,
    "dim_model_base": 64,
    "intermediate_size": 96, "n_inner": 96, "ffn_hidden_size": 96, "intermediate_size_mlp": 96,
    "ff_intermediate_size": 96,
    "vocab_size": 320, "vocab_size_per_layer_input": 320, "hidden_size_per_layer_input": 16,
    "num_hidden_layers": LAYERS, "num_layers": LAYERS, "n_layer": LAYERS, "n_layers": LAYERS,
    "num_attention_heads": 4, "num_heads": 4, "n_head": 4, "n_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "n_kv_heads": 2, "head_dim": 16, "global_head_dim": 16,
    "num_global_key_value_heads": 2, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 16,
    "swa_v_head_dim": 16, "max_position_embeddings": 4096, "n_ctx": 512, "n_positions": 512, "model_max_length": 4096,
    "block_size": 512,
    # norms, positions, biases, scales
    "rms_norm_eps": 1e-5, "layer_norm_eps": 1e-5, "norm_eps": 1e-5, "layer_norm_epsilon": 1e-5, "norm_epsilon": 1e-5,
    "layernorm_epsilon": 1e-5, "rope_theta": 10000.0, "rotary_emb_base": 10000, "rotary_pct": 0.5, "rotary_dim": 8,
    "partial_rotary_factor": 0.5, "rope_scaling": None, "swa_rope_theta": 10000.0,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "use_bias": True, "no_bias": True,
    "use_qkv_bias": False, "post_norm": False, "qk_norm": True, "use_qk_norm": True, "hidden_act": "silu",
    "logits_scaling": 1.0, "attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
    "scale_depth": 1.4, "scale_emb": 1.0, "query_pre_attn_scalar": 16, "bos_token_id": 0, "eos_token_id": 1,
    # windows and kinds of layers
    "sliding_window": 8, "sliding_window_size": 8, "window_size": 8, "attention_window_size": 8, "attn_window_size": 8,
    "attention_chunk_size": 256, "sliding_window_pattern": 2, "sliding_window_layers": [1], "full_attn_mod": 2,
    "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2), "no_rope_layers": [1] * LAYERS,
    "num_loops": 2, "layer_group_size": 2, "global_attn_every_n_layers": 2, "num_kv_shared_layers": 2,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "num_experts_per_token": 2, "moe_topk": 2, "moe_top_k": 2, "moe_k": 2, "top_k_experts": 2,
    "moe_intermediate_size": 32, "expert_ffn_hidden_size": 32, "shared_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "n_shared_experts": 1, "num_shared_experts": 1, "num_shared_expert": 1,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1, "moe_layer_freq": 1,
    "moe_every_n_layers": 2, "interleave_moe_layer_step": 1, "mlp_only_layers": [], "decoder_sparse_step": 2,
    "is_moe_layer": [False, True] * (LAYERS // 2), "norm_topk_prob": True, "routed_scaling_factor": 1.0,
    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "use_expert_bias": True, "use_mixed_mlp_moe": False,
    "expert_layer_offset": 1, "expert_layer_period": 2, "use_cla": False, "cla_share_factor": 2,
    # latent attention
    "kv_lora_rank": 32, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "index_head_dim": 16, "index_n_heads": 2, "index_topk": 8,
    # recurrent layers
    "linear_num_value_heads": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4, "full_attention_interval": 2, "linear_allow_neg_eigval": False, "state_size": 16,
    "ssm_state_size": 16, "conv_kernel": 4, "n_groups": 1, "use_conv_bias": True, "time_step_rank": 4,
    "time_step_limit": [0.0, 1.0], "mamba_num_heads": 4, "mamba_head_dim": 16, "mamba_proj_bias": False,
    "mamba_d_conv": 4, "mamba_d_state": 16, "mamba_expand": 2, "mamba_conv_bias": True, "mamba_dt_rank": 4,
    "mamba_hidden_act": "silu", "mamba_step": 2, "mamba_enabled": True, "mlp_hidden_act": "relu2",
    "hybrid_override_pattern": list("M*M-E*"), "conv_bias": False, "conv_L_cache": 3, "conv_window": 2,
    "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False,
    "attn_layer_offset": 1, "attn_layer_period": 2, "lru_width": 64, "conv1d_width": 4, "logits_soft_cap": 30.0,
    "block_types": ["recurrent", "attention"], "embeddings_scale_by_sqrt_dim": True, "decay_low_rank_dim": 8,
    "gate_low_rank_dim": 8, "a_low_rank_dim": 8, "v_low_rank_dim": 8,
}  # fmt: skip
_YARN = {
    "rope_theta": 10000.0, "type": "yarn", "rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0,
    "original_max_position_embeddings": 1024, "llama_4_scaling_beta": 0.1,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "qwen": {"kv_channels": 16},
    "plamo": {"n_shared_head": 2},
    "mistral4": {"rope_parameters": _YARN},
    "ministral3": {"rope_parameters": _YARN},
    "deepseek_v2": {"rope_scaling": _YARN},
    "minicpm3": {"rope_scaling": {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [1.0] * 8}},
    "gemma3n": {
        "rope_local_base_freq": 10000.0, "final_logit_softcapping": 30.0, "activation_sparsity_pattern": [0.0] * LAYERS,
        "altup_num_inputs": 2, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_active_idx": 0,
        "laurel_rank": 8,
    },
    "llama4": {"num_experts_per_tok": 1},
    "bailing_hybrid": {"group_norm_size": 1},
    "bailing_moe_linear": {"group_norm_size": 1},
    "kimi_linear": {
        "linear_attn_config": {
            "kda_layers": [1, 3, 5], "full_attn_layers": [2, 4, 6], "num_heads": 4, "head_dim": 16,
            "short_conv_kernel_size": 4,
        }
    },
    "longcat_flash": {
        "attention_method": "MLA", "zero_expert_type": "identity", "zero_expert_num": 2, "mla_scale_q_lora": True,
        "mla_scale_kv_lora": True,
    },
    "longcat_flash_ngram": {"zero_expert_num": 2, "mla_scale_q_lora": True, "mla_scale_kv_lora": True},
    "hunyuan": {"rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
    "mimo_v2_flash": {
        "hybrid_layer_pattern": [0, 1] * (LAYERS // 2), "moe_layer_freq": [0, 1] * (LAYERS // 2),
        "add_swa_attention_sink_bias": True, "add_full_attention_sink_bias": False,
    },
    "spark2_5": {
        "hidden_act": "gelu",
        "rope_parameters": {
            kind: {"rope_theta": 10000.0, "rope_type": "default"} for kind in ("full_attention", "sliding_attention")
        }
    },
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"] * (LAYERS // 2), "mamba_n_heads": 4, "mamba_d_head": 16,
        "mamba_n_groups": 1,
    },
    "step3p5": {"num_attention_groups": 2},
    "afm7": {"num_kv_reuse_layers": 2},
    "exaone4": {"sliding_window_pattern": "LG"},
    "nemotron-nas": {
        "block_configs": [
            {"attention": {"no_op": index == 1, "n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.5}}
            for index in range(LAYERS)
        ]
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 4, "moe_top_k": 2},
    },
}  # fmt: skip
"""What single architectures want otherwise."""
TEXTS = ("gemma3", "gemma3n", "gemma4", "kimi_k25", "kimi_vl", "lfm2-vl", "llama4", "mistral3", "pixtral", "qwen2_vl",
         "qwen3_5", "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe")  # fmt: skip
"""They take the text model's values in a table of their own."""
LARGEST = 64 << 20
"""Bytes: an architecture whose own defaults are as large as a real model is left out."""


def architectures() -> list[str]:
    """Every module of mlx_lm that is a model, by name."""
    import mlx_lm.models

    return sorted(module.name for module in pkgutil.iter_modules(mlx_lm.models.__path__))


def write(name: str, folder: Path) -> bool:
    """A model of this architecture in the new `folder`; False where the table does not build one."""
    import mlx.core as mx
    from mlx.utils import tree_flatten

    try:
        module = importlib.import_module(f"mlx_lm.models.{name}")
        values = {**USUAL, **OWN.get(name, {})}
        known = {field.name for field in dataclasses.fields(module.ModelArgs)}
        config = {"model_type": name, **{key: value for key, value in values.items() if key in known}}
        if name in TEXTS:
            config["text_config"] = {"model_type": name, **values}
        model = module.Model(module.ModelArgs.from_dict(config))
    except (SystemExit, ImportError, AttributeError, TypeError, ValueError, KeyError, IndexError, AssertionError):
        return False
    weights: Any = dict(tree_flatten(model.parameters()))
    if sum(value.nbytes for value in weights.values()) > LARGEST:
        return False
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    return True
