"""What the planner is told of a model is what mlx_lm keeps and what its caches take."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model, quantize_model, save_config
from structlog.testing import capture_logs

from nova.errors import ModelError
from nova.model.card import read_card
from nova.model.figures import figures, figures_of
from nova.plan.inputs import ModelFigures
from nova.plan.profiles import find_profile
from tests.support.tiny import KINDS, make_tiny
from tests.unit.model.architectures import architectures, write

POSITIONS = 256
"""A whole step of mlx_lm's growing caches, and longer than the windows of the tiny models."""
UNTRACEABLE = ("bitnet", "dbrx") if not mx.metal.is_available() else ("dbrx",)
LOOPED = ("iquestloopcoder", "nanbeige")
LEAST_BUILT = 110
"""Of about 120 architectures; the others want values that are no other's."""


def kept_bytes(folder: Path) -> int:
    model, _ = load_model(folder, lazy=True)
    named: Any = tree_flatten(model.parameters())
    return sum(value.nbytes for _, value in named)


def told_cache_bytes(told: ModelFigures, positions: int) -> int:
    return sum(
        layer.kv_fixed_bytes + layer.kv_token_bytes * min(positions, layer.window or positions) for layer in told.layers
    )


def real_cache_bytes(folder: Path, positions: int) -> int:
    model, _ = load_model(folder, lazy=True)
    caches = make_prompt_cache(model)
    for width in (positions - 1, 1):
        model(mx.zeros((1, width), mx.int32), cache=caches)
    return sum(cache.nbytes for cache in caches)


@pytest.mark.parametrize("name", architectures())
def test_all_bytes_that_mlx_lm_keeps_are_told_and_so_are_its_caches(name: str, tmp_path: Path) -> None:
    if not write(name, tmp_path / name):
        pytest.skip("not built from the table of usual values")
    told = figures(tmp_path / name)
    assert sum(layer.weight_bytes for layer in told.layers) + told.embedding_bytes + told.head_bytes == kept_bytes(
        tmp_path / name
    )
    passes = 2 if name in LOOPED else 1
    assert all(0 < layer.read_bytes <= passes * layer.weight_bytes for layer in told.layers)
    assert all(layer.flops > 0 for layer in told.layers)
    if name not in UNTRACEABLE:
        assert told_cache_bytes(told, POSITIONS) == real_cache_bytes(tmp_path / name, POSITIONS) > 0


def test_most_architectures_are_built_by_the_table(tmp_path: Path) -> None:
    built = {name for name in architectures() if write(name, tmp_path / name)}
    assert len(built) >= LEAST_BUILT
    assert built >= {"llama", "qwen3", "qwen3_moe", "gemma3", "gpt_oss", "mamba2", "qwen3_next", "deepseek_v3", "olmo3"}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_and_the_models_card_agree(kind: str, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / kind, kind)
    card, told = read_card(folder), figures(folder)
    assert tuple(layer.weight_bytes for layer in told.layers) == card.layer_bytes
    assert (told.embedding_bytes, told.head_bytes, told.tied) == (card.embedding_bytes, card.head_bytes, card.tied)
    assert (told.hidden_bytes, told.context, told.name) == (card.hidden_size * 4, card.context, kind)


def test_a_dense_layer_is_read_whole_and_does_two_operations_for_each_weight(tmp_path: Path) -> None:
    told = figures(make_tiny(tmp_path / "llama", dtype="bfloat16"))
    matrices = 64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96
    assert {layer.flops for layer in told.layers} == {2 * matrices}
    assert {layer.read_bytes for layer in told.layers} == {2 * (matrices + 2 * 64)}
    assert told.head_flops == 2 * 64 * 320
    assert told.hidden_bytes == 128


def test_a_tied_head_does_the_embeddings_operations(tmp_path: Path) -> None:
    told = figures(make_tiny(tmp_path / "tied", "llama-tied"))
    assert told.tied
    assert told.head_flops == 2 * 64 * 320
    assert told.head_bytes == 4 * 64


def test_of_experts_only_the_share_that_a_position_takes_is_read(tmp_path: Path) -> None:
    """Two of four experts; the router, attention and norms whole. Layers of `decoder_sparse_step` 2 are dense."""
    dense, sparse = figures(make_tiny(tmp_path / "moe", "qwen3_moe")).layers[:2]
    assert dense.read_bytes == dense.weight_bytes
    experts = 4 * 4 * 3 * 64 * 32
    assert sparse.weight_bytes - sparse.read_bytes == experts // 2
    attention, router = 64 * 64 * 2 + 64 * 32 * 2, 4 * 64
    assert sparse.flops == 2 * (attention + router + 2 * 3 * 64 * 32)


def test_shared_experts_are_read_whole(tmp_path: Path) -> None:
    assert write("deepseek_v3", tmp_path / "deepseek_v3")
    sparse = figures(tmp_path / "deepseek_v3").layers[1]
    assert sparse.weight_bytes - sparse.read_bytes == 4 * (4 * 3 * 64 * 32) // 2


@pytest.mark.parametrize(
    ("mode", "bits", "group"),
    [("affine", 4, 64), ("affine", 8, 32), ("affine", 3, 32), ("mxfp4", 4, 32), ("mxfp8", 8, 32)],
)
def test_quantised_weights_are_as_many_in_fewer_bytes(tmp_path: Path, mode: str, bits: int, group: int) -> None:
    plain = make_tiny(tmp_path / "plain", hidden_size=128, intermediate_size=128, head_dim=32)
    quantised = quantise(plain, tmp_path / "quantised", bits, group, mode)
    before, after = figures(plain), figures(quantised)
    assert [layer.flops for layer in after.layers] == [layer.flops for layer in before.layers]
    assert after.head_flops == before.head_flops
    assert after.hidden_bytes == before.hidden_bytes
    assert after.layers[0].read_bytes < before.layers[0].read_bytes * (bits + 3) / 32


def test_layers_may_be_quantised_each_in_its_way(tmp_path: Path) -> None:
    plain = make_tiny(tmp_path / "plain")

    def by_layer(path: str, module: object) -> bool | dict[str, object]:
        return {"bits": 8, "group_size": 32, "mode": "affine"} if ".1." in path else "layers.2" not in path

    mixed = quantise(plain, tmp_path / "mixed", 4, 32, "affine", by_layer)
    four, eight, none, _ = figures(mixed).layers
    assert four.flops == eight.flops == none.flops
    assert four.weight_bytes < eight.weight_bytes < none.weight_bytes


def quantise(source: Path, target: Path, bits: int, group: int, mode: str, predicate: Any = None) -> Path:
    model, config = load_model(source)
    model, config = quantize_model(model, config, group, bits, mode=mode, quant_predicate=predicate)
    named: Any = dict(tree_flatten(model.parameters()))
    target.mkdir()
    mx.save_safetensors(str(target / "model.safetensors"), named, metadata={"format": "mlx"})
    save_config(config, target / "config.json")
    return target


def test_no_weight_is_read(tmp_path: Path) -> None:
    """A model of 13 GB whose file has a hole in place of its weights: told at once, and in little memory."""
    hidden, layers, wide = 8192, 8, 28672
    shapes = {
        "model.embed_tokens.weight": [32000, hidden],
        "lm_head.weight": [32000, hidden],
        "model.norm.weight": [hidden],
    }
    for index in range(layers):
        shapes |= {
            f"model.layers.{index}.{name}.weight": shape
            for name, shape in {
                "self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [1024, hidden],
                "self_attn.v_proj": [1024, hidden], "self_attn.o_proj": [hidden, hidden],
                "mlp.gate_proj": [wide, hidden], "mlp.up_proj": [wide, hidden], "mlp.down_proj": [hidden, wide],
                "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
            }.items()
        }  # fmt: skip
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + offset)
    config = {"model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "intermediate_size": wide,
              "num_attention_heads": 64, "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "vocab_size": 32000,
              "tie_word_embeddings": False}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = figures(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB on Linux, bytes on macOS
    assert sum(layer.weight_bytes for layer in told.layers) + told.embedding_bytes + told.head_bytes == offset > 13e9
    assert told.layers[0].kv_token_bytes == 2 * 8 * 128 * 2


@pytest.mark.skipif(mx.metal.is_available(), reason="there the model can be traced")
def test_caches_that_cannot_be_traced_are_told_by_their_heads_and_the_log_says_so(tmp_path: Path) -> None:
    assert write("bitnet", tmp_path / "bitnet")
    with capture_logs() as logs:
        told = figures(tmp_path / "bitnet")
    assert {layer.kv_token_bytes for layer in told.layers} == {2 * 2 * 16 * 4}
    assert [entry["bytes_per_layer"] for entry in logs] == [256]


def test_an_emulated_model_reads_in_proportion_to_its_times(tmp_path: Path) -> None:
    told, profile = figures_of("emulated:seed", tmp_path), find_profile("emulated:seed")
    read = [layer.read_bytes for layer in told.layers]
    assert sum(read[:58]) / sum(read[58:]) == pytest.approx(70 / 36)
    assert told.hidden_bytes == 2 * profile.hidden
    assert {layer.weight_bytes for layer in told.layers} == {0}


def test_a_model_is_found_by_name(tmp_path: Path) -> None:
    make_tiny(tmp_path / "models" / "tiny")
    assert figures_of("tiny", tmp_path).name == "tiny"


@pytest.mark.parametrize("name", ["emulated:none", "nothing-here"])
def test_a_model_that_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=name.removeprefix("emulated:")):
        figures_of(name, tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "unheard_of"}, "unheard_of"),
        ({"model_file": "evil.py"}, "model_file"),
        ({"hidden_size": 128}, "mlx_lm cannot build"),
    ],
)
def test_what_mlx_lm_does_not_build_is_refused_with_the_reason(tmp_path: Path, change: Any, words: str) -> None:
    folder = make_tiny(tmp_path / "tiny")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words) as refused:
        figures(folder)
    assert str(folder) in str(refused.value)
