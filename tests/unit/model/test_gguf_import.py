from __future__ import annotations

import json
from math import pi
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from nova.errors import ModelError
from nova.model.gguf.importer import import_gguf
from nova.model.gguf.write import group_shards
from nova.model.tokenizer import Tokenizer
from tests.support.gguf import CODES, Floats, build, pack, tiny_gguf, tiny_metadata, tiny_shapes

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.1.attn_norm": "model.layers.1.input_layernorm",
    "blk.1.attn_q": "model.layers.1.self_attn.q_proj",
    "blk.1.attn_k": "model.layers.1.self_attn.k_proj",
    "blk.1.attn_v": "model.layers.1.self_attn.v_proj",
    "blk.1.attn_output": "model.layers.1.self_attn.o_proj",
    "blk.1.ffn_norm": "model.layers.1.post_attention_layernorm",
    "blk.1.ffn_gate": "model.layers.1.mlp.gate_proj",
    "blk.1.ffn_up": "model.layers.1.mlp.up_proj",
    "blk.1.ffn_down": "model.layers.1.mlp.down_proj",
}
HEADS = {"blk.1.attn_q": 4, "blk.1.attn_k": 2}


def weights(folder: Path) -> dict[str, mx.array]:
    loaded: dict[str, mx.array] = {}
    for file in folder.glob("model*.safetensors"):
        part = mx.load(str(file))
        assert isinstance(part, dict)
        loaded.update(part)
    return loaded


def expected(name: str, values: Floats) -> Floats:
    """Row 2j+i of a head in GGUF is row i*half+j in mlx_lm."""
    heads = HEADS.get(name, 0)
    if not heads:
        return values
    size = values.shape[0] // heads
    rows = [head * size + 2 * (row % (size // 2)) + row // (size // 2) for head in range(heads) for row in range(size)]
    return values[rows]


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_0", "Q4_1", "Q8_0"])
def test_float32_holds_exactly_the_values_of_the_file(tmp_path: Path, kind: str) -> None:
    values = tiny_gguf(tmp_path / "m.gguf", kind)
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
    loaded = weights(tmp_path / "m")
    for name, target in NAMES.items():
        mine = loaded[f"{target}.weight"]
        assert mine.dtype == mx.float32
        np.testing.assert_allclose(np.array(mine), expected(name, values[f"{name}.weight"]), atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("kind", "embedding"), [("Q4_0", "Q8_0"), ("Q4_1", "Q8_0"), ("Q8_0", "Q4_0"), ("Q4_1", "F16")])
def test_keep_stays_quantised_and_means_the_same_values(tmp_path: Path, kind: str, embedding: str) -> None:
    values = tiny_gguf(tmp_path / "m.gguf", kind, embedding)
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "keep")
    loaded = weights(tmp_path / "m")
    for name, target in NAMES.items():
        mine = loaded[f"{target}.weight"]
        if mine.dtype == mx.uint32:
            scales, biases = (loaded[f"{target}.{part}"].astype(mx.float32) for part in ("scales", "biases"))
            bits = 4 if (embedding if name == "token_embd" else kind).startswith("Q4") else 8
            mine = mx.dequantize(mine, scales, biases, group_size=32, bits=bits)
        else:
            assert name == "token_embd" or "norm" in name
        wanted = expected(name, values[f"{name}.weight"])
        np.testing.assert_allclose(np.array(mine.astype(mx.float32)), wanted, rtol=1e-3, atol=1e-5, err_msg=name)


def test_keep_is_what_mlx_lm_loads_with_the_bits_of_each_module(tmp_path: Path) -> None:
    from mlx_lm.utils import load_model

    tiny_gguf(tmp_path / "m.gguf", "Q4_1", "Q8_0")
    card = import_gguf(tmp_path / "m.gguf", tmp_path / "keep", "keep")
    import_gguf(tmp_path / "m.gguf", tmp_path / "full", "float32")
    kept, full = load_model(tmp_path / "keep")[0], load_model(tmp_path / "full")[0]
    assert (kept.model.embed_tokens.bits, kept.model.layers[0].mlp.up_proj.bits) == (8, 4)
    assert card.quantisation is not None
    assert card.quantisation.bits == 4
    # Older versions of mlx_lm go by this entry, newer ones see it from the shapes.
    config = json.loads((tmp_path / "keep" / "config.json").read_text())
    assert config["quantization"]["model.embed_tokens"] == {"group_size": 32, "bits": 8}
    tokens = mx.array([[5, 6, 7]])
    ours, theirs = np.array(kept(tokens).astype(mx.float32)), np.array(full(tokens))
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_the_config_carries_the_figures_of_the_file(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "m.gguf", "F32", llama__rope__freq_base=50000.0, tokenizer__ggml__eot_token_id=7)
    done: list[tuple[int, int]] = []
    card = import_gguf(tmp_path / "m.gguf", tmp_path / "m", "bfloat16", lambda *step: done.append(step))
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["rope_theta"] == 50000.0
    assert config["rms_norm_eps"] == pytest.approx(1e-5)
    assert (config["num_key_value_heads"], config["head_dim"], config["tie_word_embeddings"]) == (2, 16, False)
    assert (card.layers, card.hidden_size, card.vocab_size, card.eos_token_ids) == (2, 64, 320, (1, 7))
    assert done[0][0] == 0
    assert done[-1][0] == done[-1][1] > 0
    assert sorted(done) == done


def test_attention_biases_are_permuted_with_their_rows(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    tensors = {}
    values = {}
    biases = {f"blk.{i}.{n}.bias": (r,) for i in (0, 1) for n, r in (("attn_q", 64), ("attn_k", 32), ("attn_v", 32), ("attn_output", 64))}  # fmt: skip  # noqa: E501
    for name, shape in {**tiny_shapes(), **biases}.items():
        data, values[name] = pack(generator.normal(size=shape).astype(np.float32), "F32")
        tensors[name] = (shape, CODES["F32"], data)
    (tmp_path / "m.gguf").write_bytes(build(tiny_metadata(), tensors))
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
    loaded = weights(tmp_path / "m")
    for name in ("blk.1.attn_q", "blk.1.attn_k", "blk.1.attn_v"):
        wanted = expected(name, values[f"{name}.bias"])
        np.testing.assert_array_equal(np.array(loaded[f"{NAMES[name]}.bias"]), wanted)


def llama3_factors(scale: float) -> list[float]:
    waves = [2 * pi * 10000.0 ** (2 * index / 16) for index in range(8)]
    blends = [min(1.0, max(0.0, (8192 / wave - 1) / 3)) for wave in waves]
    return [1 / ((1 - blend) / scale + blend) for blend in blends]


@pytest.mark.parametrize(
    ("factors", "good"), [(llama3_factors(8.0), True), ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], False)]
)
def test_the_scaled_rope_of_llama3_is_recognised_and_others_refused(
    tmp_path: Path, factors: list[float], good: bool
) -> None:
    tensors = {name: (shape, 0, pack(np.ones(shape, np.float32), "F32")[0]) for name, shape in tiny_shapes().items()}
    tensors["rope_freqs.weight"] = ((8,), 0, np.array(factors, "<f4").tobytes())
    (tmp_path / "m.gguf").write_bytes(build(tiny_metadata(), tensors))
    if not good:
        with pytest.raises(ModelError, match="not those of llama 3"):
            import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
        return
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
    from mlx_lm.utils import load_model

    rope = load_model(tmp_path / "m")[0].model.layers[0].self_attn.rope
    plain = 10000.0 ** (np.arange(0, 16, 2) / 16)
    np.testing.assert_allclose(np.array(rope._freqs), plain * np.array(factors), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"general__architecture": "gemma3"}, "architecture 'gemma3'; only 'llama'"),
        ({"llama__expert_count": 8}, "llama.expert_count"),
        ({"llama__attention__head_count_kv": 3}, r"attn_k.weight has shape \(32, 64\), expected \(48, 64\)"),
        ({"llama__attention__head_count": 3}, "expected the head size 21"),
        ({"llama__block_count": 3}, "21 tensors are too few for 3 layers"),
        ({"llama__block_count": 1 << 31}, "too few for 2147483648 layers"),
        ({"llama__block_count": 1}, "blk.1.attn_k.weight is not part"),
        ({"llama__block_count": "two"}, "expected a int"),
        ({"llama__rope__scaling__type": "yarn"}, "rope scaling 'yarn'"),
        ({"tokenizer__ggml__model": "llama"}, "tokenizer 'llama'; only 'gpt2'"),
        ({"tokenizer__ggml__pre": "tekken"}, "pre-tokenizer 'tekken'; known are"),
        ({"tokenizer__ggml__pre": None}, "has no tokenizer.ggml.pre"),
        ({"tokenizer__ggml__tokens": ["a", "a"]}, "1 different tokens"),
        ({"tokenizer__ggml__merges": ["h zz"]}, "merge 'h zz'"),
        ({"tokenizer__ggml__merges": [1]}, "not a list of strings"),
        ({"tokenizer__ggml__token_type": [1]}, "1 token types"),
        ({"tokenizer__ggml__eos_token_id": 320}, "outside the vocabulary"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    tiny_gguf(tmp_path / "m.gguf", "F32", **changes)
    with pytest.raises(ModelError, match=match):
        import_gguf(tmp_path / "m.gguf", tmp_path / "models" / "m", "float32")
    assert list(tmp_path.glob("models/*")) == []
    assert list(tmp_path.glob("models/.*")) == []


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    tensors = {name: (shape, 0, pack(np.ones(shape, np.float32), "F32")[0]) for name, shape in tiny_shapes().items()}
    tensors["strange.weight"] = tensors.pop("blk.1.ffn_up.weight")
    (tmp_path / "m.gguf").write_bytes(build(tiny_metadata(), tensors))
    with pytest.raises(ModelError, match=r"blk\.1\.ffn_up\.weight is missing \(1 in all\)"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")


def test_an_existing_model_is_replaced_only_when_asked(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "m.gguf", "Q8_0")
    import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float32")
    with pytest.raises(ModelError, match="exists already"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float16")
    (tmp_path / "out" / "m" / "stray").touch()
    import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float16", overwrite=True)
    assert weights(tmp_path / "out" / "m")["lm_head.weight"].dtype == mx.float16
    assert not (tmp_path / "out" / "m" / "stray").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m"]


def test_overwriting_spares_a_folder_that_is_no_model(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "m.gguf")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="not a model folder"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "home", "float32", overwrite=True)
    assert (tmp_path / "home" / "letter.txt").read_text() == "dear"


def test_a_failed_overwrite_keeps_the_old_model(tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "m.gguf")
    import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float32")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "m").iterdir()}

    def fail(done: int, total: int) -> None:
        raise ModelError("stopped")

    with pytest.raises(ModelError, match="stopped"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float16", fail, overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "m").iterdir()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["m"]


def test_a_new_model_that_cannot_take_its_place_gives_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_gguf(tmp_path / "m.gguf")
    import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float32")
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ModelError, match="cannot be written: Permission denied"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "out" / "m", "float16", overwrite=True)
    assert weights(tmp_path / "out" / "m")["lm_head.weight"].dtype == mx.float32


def test_an_unknown_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected keep, float32"):
        import_gguf(tmp_path / "m.gguf", tmp_path / "m", "int4")


@pytest.mark.parametrize(
    ("pre", "text", "pieces"),
    [
        ("gpt-2", "the 1234", ["the", "Ġ1234"]),
        ("smollm", "the 1234", ["the", "Ġ", "1", "2", "3", "4"]),
        ("llama-bpe", "the 1234", ["the", "Ġ", "123", "4"]),
        ("qwen2", "the 1234", ["the", "Ġ", "1", "2", "3", "4"]),
    ],
)
def test_each_family_splits_numbers_its_own_way(tmp_path: Path, pre: str, text: str, pieces: list[str]) -> None:
    from tokenizers import Tokenizer as Backend

    tiny_gguf(tmp_path / "m.gguf", tokenizer__ggml__pre=pre)
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
    backend = Backend.from_file(str(tmp_path / "m" / "tokenizer.json"))
    assert [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)] == pieces


@pytest.mark.parametrize(("changes", "begins"), [({}, False), ({"tokenizer__ggml__add_bos_token": True}, True)])
def test_the_begin_token_comes_as_the_file_says(tmp_path: Path, changes: dict[str, Any], begins: bool) -> None:
    tiny_gguf(tmp_path / "m.gguf", **changes)
    import_gguf(tmp_path / "m.gguf", tmp_path / "m", "float32")
    tokenizer = Tokenizer.load(tmp_path / "m")
    he = tokenizer.encode("he")[-1]
    assert tokenizer.encode("he") == ([0, he] if begins else [he])
    assert tokenizer.encode("<|bos|>he") == [0, he]
    assert tokenizer.encode("he", chat=True) == [0, he, 1]


def test_shards_follow_layers_and_keep_each_one_whole() -> None:
    sizes = [("e", "e", 50), ("a1", "a", 30), ("a2", "a", 30), ("b1", "b", 30), ("b2", "b", 120), ("n", "n", 1)]
    assert group_shards(sizes, limit=100) == [["e"], ["a1", "a2"], ["b1", "b2"], ["n"]]
    assert group_shards(sizes, limit=1000) == [["e", "a1", "a2", "b1", "b2", "n"]]
