from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova.errors import ModelError
from nova.model.tokenizer import Tokenizer
from tests.support.tiny import VOCAB, make_tiny

TRICKY = [
    "",
    "The capital of France is",
    "  two spaces, a tab\t, lines\r\n\n\n and an end ",
    "héllo wörld — 世界 ﷽ e\u0301",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f9d1\U0001f3fd\u200d\U0001f680",
    "x = 12345.678e-9; don't we'LL",
    "<|im_start|>user\nhi<|im_end|>",
    "\u00a0\u2003\ufeff zero\u200bwidth",
    "a replacement \ufffd character",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tokenizer") / "m", layers=1)


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def demo(smollm: Path) -> Tokenizer:
    return Tokenizer.load(smollm)


def streamed(tokenizer: Tokenizer, ids: list[int]) -> str:
    stream = tokenizer.stream()
    return "".join([stream.add(token) for token in ids] + [stream.flush()])


@pytest.mark.parametrize("text", TRICKY)
def test_text_survives_encoding_and_decoding(demo: Tokenizer, tiny: Tokenizer, text: str) -> None:
    for tokenizer in (demo, tiny):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert streamed(tokenizer, ids) == text


def test_special_tokens_are_single_ids(demo: Tokenizer) -> None:
    assert demo.encode("<|im_start|>") == [1]
    assert demo.eos_token_id == 2


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, VOCAB - 1), max_size=40))
def test_the_stream_of_any_tokens_adds_up_to_their_text(tiny: Tokenizer, ids: list[int]) -> None:
    assert streamed(tiny, ids) == tiny.decode(ids)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=20))
def test_the_stream_of_single_bytes_adds_up_to_the_text(tiny: Tokenizer, text: str) -> None:
    assert streamed(tiny, tiny.encode(text)) == text


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_the_stream_of_random_tokens_of_a_real_model_adds_up(demo: Tokenizer, seed: int) -> None:
    pick = random.Random(seed)
    # Low ids are special tokens and single bytes: many broken characters; high ids are words.
    ids = [pick.randrange(17, 273) if pick.random() < 0.5 else pick.randrange(49152) for _ in range(40)]
    assert streamed(demo, ids) == demo.decode(ids)


def test_a_decoder_that_strips_the_first_space_keeps_the_others(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    backend = Backend(models.WordLevel({"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    stream = Tokenizer.load(tmp_path).stream()
    assert [stream.add(token) for token in (1, 2, 3, 1)] == ["the", " cat", "s", " the"]


def test_a_character_comes_only_when_all_its_bytes_are_there(tiny: Tokenizer) -> None:
    stream = tiny.stream()
    assert [stream.add(token) for token in tiny.encode("a€b")] == ["a", "", "", "€", "b"]


@pytest.mark.parametrize("kind", ["\ufffd", ""])
def test_tokens_without_sound_text_are_not_decoded_again_for_ever(tiny: Tokenizer, kind: str) -> None:
    (token,) = tiny.encode("\u0080")[:1] if kind else [len(tiny._backend) + 1]  # the latter as in a padded vocabulary
    assert tiny.decode([token]) == kind
    stream, count = tiny.stream(), 1000
    start, (after,) = tiny.encode("a"), tiny.encode("b")
    lengths: list[int] = []

    def counted(ids: list[int]) -> str:
        lengths.append(len(ids))
        return tiny.decode(ids)

    stream._decode = counted
    pieces = [stream.add(each) for each in [*start, *[token] * count, after]]
    assert "".join([*pieces, stream.flush()]) == "a" + kind * count + "b"
    assert max(lengths) <= 2 * 64 + 1
    assert sum(map(bool, pieces)) >= (count // 64 if kind else 2)  # it does not wait for the end


def test_a_broken_character_comes_with_the_next_sound_one(tiny: Tokenizer) -> None:
    first = tiny.encode("€")[0]
    stream = tiny.stream()
    assert stream.add(first) == ""
    assert stream.add(tiny.encode("x")[0]) == "\ufffdx"
    assert stream.add(first) == ""
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


@pytest.fixture(scope="module")
def both(folder: Path, tiny: Tokenizer, smollm: Path, demo: Tokenizer) -> list[tuple[Tokenizer, Any]]:
    """Our tokenizer and mlx_lm's, of two models."""
    from mlx_lm.utils import load_tokenizer

    return [(tiny, load_tokenizer(folder)), (demo, load_tokenizer(smollm))]


@pytest.mark.parametrize("text", [*TRICKY, "<|bos|>already there"])
def test_the_ids_are_those_of_mlx_lm(both: list[tuple[Tokenizer, Any]], text: str) -> None:
    for ours, theirs in both:
        special = theirs.bos_token is None or not text.startswith(theirs.bos_token)
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=special)
        turn = [{"role": "user", "content": text}]
        assert ours.encode(text, chat=True) == theirs.apply_chat_template(turn, add_generation_prompt=True)


def test_the_chat_template_opens_the_assistants_turn(demo: Tokenizer) -> None:
    text = demo.decode(demo.encode("Hi", chat=True))
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("template", "match"),
    [(None, "has no chat template"), ("{{ raise_exception('no') }}", "template fails"), ("{% if", "template fails")],
)
def test_a_chat_without_a_working_template_is_a_model_error(tmp_path: Path, template: Any, match: str) -> None:
    folder = make_tiny(tmp_path / "m", layers=1)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    with pytest.raises(ModelError, match=match):
        Tokenizer.load(folder).encode("hi", chat=True)


def test_a_folder_without_a_tokenizer_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match="cannot load the tokenizer"):
        Tokenizer.load(tmp_path)
    folder = make_tiny(tmp_path / "m", layers=1)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(ModelError, match="cannot load the tokenizer"):
        Tokenizer.load(folder)


def test_a_daemon_tokenizes_without_mlx_and_imports_nothing_heavy_before(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import nova.model.tokenizer, nova.model.locate, nova.model.card\n"
        "assert not {'transformers', 'tokenizers', 'huggingface_hub', 'mlx'} & set(sys.modules)\n"
        "assert nova.model.tokenizer.Tokenizer.load(Path(sys.argv[1])).encode('he')\n"
        "assert not {'mlx', 'mlx.core', 'mlx_lm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
