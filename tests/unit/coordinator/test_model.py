"""The model as the coordinator sees it: layers, context, stop tokens, text and the split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nova.coordinator.model import UNLIMITED, open_model
from nova.errors import ModelError, PlanError
from nova.wire.work import Sampling
from tests.support.tiny import EOS, make_tiny


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    make_tiny(home / "models" / "tiny", layers=5)
    return home


def test_a_model_is_split_evenly_unless_told_otherwise(home: Path) -> None:
    model = open_model("tiny", home, 2, [])
    assert (model.name, model.layers, model.split, model.context, model.stop_tokens) == ("tiny", 5, [3, 2], 4096, [EOS])
    assert open_model("tiny", home, 3, [1, 1, 3]).split == [1, 1, 3]


def test_text_goes_to_tokens_and_back(home: Path) -> None:
    model = open_model("tiny", home, 1, [])
    tokens, stream = model.encoder.encode("the thé", False), model.text.stream()
    assert "".join(stream.add(token) for token in tokens) + stream.flush() == "the thé"
    assert model.encoder is not model.text  # one of them encodes in a thread of its own


@pytest.mark.parametrize(
    ("name", "stages", "split", "error", "why"),
    [
        ("nowhere", 2, [], ModelError, "model 'nowhere' not found"),
        ("tiny", 6, [], PlanError, "5 layers cannot fill 6 stages"),
        ("tiny", 2, [3, 3], PlanError, "the model has 5: 1 too many"),
        ("tiny", 3, [3, 2], PlanError, "there are 3 nodes"),
        ("emulated:nothing", 2, [], ModelError, "no emulated profile 'nothing'"),
        ("emulated:seed", 3, [], PlanError, "there are 3 nodes"),
        ("emulated:seed", 2, [57, 9], PlanError, "the split 58,8 only"),
    ],
)
def test_what_cannot_be_served_is_said(
    home: Path, name: str, stages: int, split: list[int], error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        open_model(name, home, stages, split)


def test_a_damaged_model_is_a_model_error(home: Path, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "damaged", layers=2)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        open_model(str(folder), home, 1, [])


def test_an_emulated_model_speaks_in_bytes(home: Path) -> None:
    model = open_model("emulated:seed", home, 2, [])
    assert (model.layers, model.split, model.context, model.stop_tokens) == (66, [58, 8], UNLIMITED, [])
    assert model.encoder.encode("né", False) == [110, 195, 169]
    stream = model.text.stream()
    assert "".join(map(stream.add, b"All work")) + stream.flush() == "All work"
    talk: list[dict[str, Any]] = [
        {"role": "user", "content": "all"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "é"},
    ]
    assert model.encoder.encode_chat(talk) == (list("all\n\né".encode()), False)
    assert model.encoder.decode([110, 195, 169, 255]) == "né\ufffd"


def test_an_emulated_character_comes_when_all_its_bytes_are_there(home: Path) -> None:
    stream = open_model("emulated:seed", home, 2, []).text.stream()
    assert [stream.add(195), stream.add(169), stream.add(226), stream.flush()] == ["", "é", "", "\ufffd"]


def test_what_a_model_recommends_is_handed_on_and_nothing_else(home: Path, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "said", layers=2)
    said = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": None, "do_sample": True, "eos_token_id": EOS}
    (folder / "generation_config.json").write_text(json.dumps(said))
    recommended = open_model(str(folder), home, 1, []).sampling
    assert recommended == {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    sent = msgspec.msgpack.encode(Sampling(**recommended))  # type: ignore[arg-type]
    assert msgspec.msgpack.decode(sent, type=Sampling) == Sampling(temperature=0.6, top_p=0.95, top_k=20)
    (folder / "generation_config.json").unlink()
    assert open_model(str(folder), home, 1, []).sampling == {}
    (folder / "generation_config.json").write_text('{"temperature": "hot"}')
    with pytest.raises(ModelError, match=r"generation_config\.json: Expected `float . null`, got `str`"):
        open_model(str(folder), home, 1, [])
