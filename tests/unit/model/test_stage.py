from __future__ import annotations

import itertools
import json
import resource
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from nova.errors import ModelError
from nova.model import stage as stage_module
from nova.model.card import read_card
from nova.model.stage import PROVEN, StageModel, load_stage
from tests.support.tiny import KINDS, make_tiny

LAYERS = 4
PROMPT = list(range(2, 302, 14))  # longer than the sliding windows of the tiny models
STEPS = 6


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("stages")
    return {kind: make_tiny(root / kind, kind, layers=LAYERS) for kind in KINDS}


def stages(folder: Path, cuts: list[int]) -> list[StageModel]:
    bounds = [0, *cuts, LAYERS]
    return [load_stage(folder, first, last) for first, last in itertools.pairwise(bounds)]


def through(parts: list[StageModel], caches: list[Any], tokens: list[int]) -> mx.array:
    h = parts[0].embed(mx.array([tokens]))
    for part, cache in zip(parts, caches, strict=True):
        h = part.run(h, cache)
        mx.eval(h)  # as if it crossed a link
    return h


def pick(row: mx.array) -> int:
    token = mx.argmax(row).item()
    assert isinstance(token, int)
    return token


def staged(parts: list[StageModel], prompt: list[int], steps: int) -> tuple[list[int], list[mx.array]]:
    """Greedy tokens and log-probabilities, in mlx_lm's chunks: all but the last token, then one by one."""
    caches = [part.make_cache() for part in parts]
    through(parts, caches, prompt[:-1])
    token, tokens, rows = prompt[-1], [], []
    for _ in range(steps):
        logits = parts[-1].head(through(parts, caches, [token]))[:, -1, :]
        rows.append((logits - mx.logsumexp(logits, keepdims=True)).squeeze(0))
        token = pick(rows[-1])
        tokens.append(token)
    return tokens, rows


def whole(folder: Path, prompt: list[int], steps: int) -> tuple[list[int], list[mx.array]]:
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    pairs = list(generate_step(mx.array(prompt), model, max_tokens=steps))
    return [int(token) for token, _ in pairs], [row for _, row in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_stages_give_the_bits_of_the_whole_model(folders: dict[str, Path], kind: str) -> None:
    tokens, rows = whole(folders[kind], PROMPT, STEPS)
    for cuts in ([1], [2], [3], [1, 3]):
        ours, our_rows = staged(stages(folders[kind], cuts), PROMPT, STEPS)
        assert ours == tokens, cuts
        assert all(mx.array_equal(a, b) for a, b in zip(our_rows, rows, strict=True)), cuts


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_mask_would_be_seen(folders: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = stages(folders[kind], [2])
    rows = staged(parts, PROMPT, 1)[1]
    monkeypatch.setattr(stage_module, "mask_for", lambda h, cache: None)
    assert not mx.allclose(staged(parts, PROMPT, 1)[1][0], rows[0], rtol=1e-2, atol=1e-2)


def test_every_proven_type_is_tested_here_and_nothing_else_is_proven() -> None:
    assert {str(extra.get("model_type", kind)) for kind, extra in KINDS.items()} == PROVEN


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_bit_equal_too(tmp_path: Path, dtype: str) -> None:
    folder = make_tiny(tmp_path / "m", "qwen3", dtype=dtype)
    parts = stages(folder, [2])
    assert parts[1].dtype == dtype
    assert str(through(parts, [part.make_cache() for part in parts], [3]).dtype) == f"mlx.core.{dtype}"
    assert staged(parts, PROMPT, STEPS)[0] == whole(folder, PROMPT, STEPS)[0]


def test_a_quantised_model_is_bit_equal_too(tmp_path: Path) -> None:
    from nova.model.gguf.importer import import_gguf
    from tests.support.gguf import tiny_gguf

    tiny_gguf(tmp_path / "m.gguf", "Q4_1", "Q8_0")
    folder = tmp_path / "m"
    import_gguf(tmp_path / "m.gguf", folder, "keep")
    parts = [load_stage(folder, 0, 1), load_stage(folder, 1, 2)]
    ours, theirs = staged(parts, PROMPT, 4), whole(folder, PROMPT, 4)
    assert parts[1].dtype == "float16"
    assert ours[0] == theirs[0]
    assert all(mx.array_equal(a, b) for a, b in zip(ours[1], theirs[1], strict=True))


def test_a_chunked_prompt_runs_like_mlx_lm_in_the_same_chunks(folders: dict[str, Path]) -> None:
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    model, _ = load_model(folders["llama-sliding"])
    theirs = [int(t) for t, _ in generate_step(mx.array(PROMPT), model, max_tokens=4, prefill_step_size=5)]
    parts = stages(folders["llama-sliding"], [2])
    caches = [part.make_cache() for part in parts]
    for start in range(0, len(PROMPT) - 1, 5):
        through(parts, caches, PROMPT[:-1][start : start + 5])
    token, ours = PROMPT[-1], []
    for _ in range(4):
        token = pick(parts[-1].head(through(parts, caches, [token]))[0, -1])
        ours.append(token)
    assert ours == theirs


def test_caches_of_two_requests_do_not_touch(folders: dict[str, Path]) -> None:
    parts = stages(folders["llama"], [2])
    alone = staged(parts, PROMPT, 3)[0]
    staged(parts, PROMPT[::-1], 2)
    assert staged(parts, PROMPT, 3)[0] == alone


def test_the_norm_is_the_step_before_the_head(folders: dict[str, Path]) -> None:
    (part,) = stages(folders["llama-tied"], [])
    h = through([part], [part.make_cache()], PROMPT)
    assert part._embedding is not None
    assert mx.array_equal(part._embedding.as_linear(part.norm(h)), part.head(h))


@pytest.mark.parametrize("bits", [4, 8])
def test_with_quantised_caches_stages_give_the_bits_of_the_whole_model_with_them(tmp_path: Path, bits: int) -> None:
    from mlx_lm.models.cache import QuantizedKVCache
    from mlx_lm.utils import load_model

    folder = make_tiny(tmp_path / "m", "llama", head_dim=64)
    model, _ = load_model(folder)
    cache = [QuantizedKVCache(64, bits) for _ in range(LAYERS)]
    model(mx.array([PROMPT[:-1]]), cache=cache)
    logits = model(mx.array([PROMPT[-1:]]), cache=cache)[:, -1, :]
    parts = [load_stage(folder, first, last, kv_bits=bits) for first, last in ((0, 2), (2, 4))]
    (row,) = staged(parts, PROMPT, 1)[1]
    assert mx.array_equal(row, (logits - mx.logsumexp(logits, keepdims=True))[0])
    assert not mx.array_equal(row, staged(stages(folder, [2]), PROMPT, 1)[1][0])


def test_windows_are_not_quantised(folders: dict[str, Path], tmp_path: Path) -> None:
    part = load_stage(make_tiny(tmp_path / "m", "llama-sliding", head_dim=64), 0, 4, kv_bits=8)
    assert [type(each).__name__ for each in part.make_cache()] == ["RotatingKVCache", "QuantizedKVCache"] * 2


@pytest.mark.parametrize(
    ("kind", "head", "why"),
    [
        ("llama", 16, r"layer 0: heads of \(16, 16\) numbers cannot be quantised: set engine.kv_bits = 0"),
        ("gpt_oss", 64, "attention sinks.*: set engine.kv_bits = 0"),
    ],
)
def test_caches_that_cannot_be_quantised_are_refused_with_the_reason(
    tmp_path: Path, kind: str, head: int, why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        load_stage(make_tiny(tmp_path / "m", kind, head_dim=head), 0, 4, kv_bits=8)


def test_a_stage_owns_only_the_ends_that_are_its_own(folders: dict[str, Path]) -> None:
    first, middle, last = stages(folders["llama"], [1, 3])
    assert [part.owns_embedding for part in (first, middle, last)] == [True, False, False]
    assert [part.owns_head for part in (first, middle, last)] == [False, False, True]
    with pytest.raises(ModelError, match="has no embedding"):
        last.embed(mx.array([[1]]))
    for end in (middle.head, middle.norm):
        with pytest.raises(ModelError, match="has no head"):
            end(mx.zeros((1, 1, 64)))
    assert (middle.hidden_size, middle.dtype, len(middle.make_cache())) == (64, "float32", 2)


@pytest.mark.parametrize("kind", ["llama", "llama-tied", "qwen3_moe"])
def test_a_stage_weighs_what_the_card_says(folders: dict[str, Path], kind: str) -> None:
    card = read_card(folders[kind])
    for first, last in ((0, 1), (1, 3), (3, 4), (0, 4)):
        assert load_stage(folders[kind], first, last).weight_bytes == card.stage_bytes(first, last)


def test_loading_reports_every_byte_once(folders: dict[str, Path]) -> None:
    done: list[tuple[int, int]] = []
    stage = load_stage(folders["llama"], 0, 2, lambda *step: done.append(step))
    assert [step[0] for step in done] == sorted({step[0] for step in done})
    assert done[0] == (0, stage.weight_bytes)
    assert done[-1] == (stage.weight_bytes, stage.weight_bytes)


@pytest.mark.parametrize(("first", "last"), [(-1, 2), (2, 2), (3, 1), (0, 5)])
def test_layers_out_of_range_are_refused(folders: dict[str, Path], first: int, last: int) -> None:
    with pytest.raises(ModelError, match=rf"no stage {first}-{last} in a model of 4 layers"):
        load_stage(folders["llama"], first, last)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"model_type": "gemma3"}, "'gemma3' has not been proven .* llama, .* qwen3"),
        ({"model_file": "evil.py"}, "run code of its own"),
        ({"intermediate_size": 128}, "mlx_lm cannot build the model: ValueError"),
        ({"tie_word_embeddings": True, "attention_bias": True}, "Missing"),
        ({"num_attention_heads": None}, "mlx_lm cannot build the model: TypeError"),
        ({"rope_scaling": {"type": "strange"}}, "mlx_lm cannot build the model"),
    ],
)
def test_a_model_that_cannot_be_staged_is_refused_with_the_reason(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    folder = make_tiny(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ModelError, match=match) as caught:
        load_stage(folder, 0, 2)
    assert "\n" not in str(caught.value)


def test_the_limit_of_open_files_is_given_back() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with stage_module._open_files_limit_kept():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
