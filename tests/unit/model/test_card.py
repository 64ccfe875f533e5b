from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova.errors import ModelError
from nova.model.card import ModelCard, read_card
from nova.model.files import read_header
from tests.support.tiny import EOS, make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("card") / "m", "llama")


def edit(folder: Path, file: str, **changes: Any) -> Path:
    path = folder / file
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, **changes}))
    return folder


def test_the_card_counts_what_the_files_hold(tiny: Path) -> None:
    card = read_card(tiny)
    layer = 4 * (64 * 64 * 2 + 32 * 64 * 2 + 3 * 64 * 96 + 2 * 64)
    assert card == ModelCard(
        model_type="llama", layers=4, hidden_size=64, vocab_size=320, eos_token_ids=(EOS,), layer_bytes=(layer,) * 4,
        embedding_bytes=4 * 320 * 64, head_bytes=4 * (320 * 64 + 64), tied=False, quantisation=None, context=4096,
    )  # fmt: skip
    data = sum(info.nbytes for file in tiny.glob("*.safetensors") for info in read_header(file).values())
    assert card.stage_bytes(0, 4) == data
    assert card.stage_bytes(0, 2) + card.stage_bytes(2, 4) == data


def test_a_tied_head_needs_the_embedding_at_both_ends(tmp_path: Path) -> None:
    card = read_card(make_tiny(tmp_path / "m", "llama-tied"))
    assert card.tied
    assert card.head_bytes == 4 * 64
    both = card.stage_bytes(0, 2) + card.stage_bytes(2, 4)
    assert both == card.stage_bytes(0, 4) + card.embedding_bytes


@pytest.mark.parametrize(
    ("generation", "expected"),
    [(None, (EOS,)), (7, (7,)), ([7, 9], (7, 9)), (0, (EOS,)), ([], (EOS,))],
)
def test_the_end_tokens_are_those_of_mlx_lm(tmp_path: Path, generation: Any, expected: tuple[int, ...]) -> None:
    from mlx_lm.utils import load_config

    folder = make_tiny(tmp_path / "m", "llama", layers=1)
    edit(folder, "generation_config.json", eos_token_id=generation)
    theirs = load_config(folder)["eos_token_id"]
    assert read_card(folder).eos_token_ids == expected == tuple(theirs if isinstance(theirs, list) else [theirs])


def test_the_quantisation_is_read(tmp_path: Path) -> None:
    folder = edit(
        make_tiny(tmp_path / "m", layers=1), "config.json", quantization={"bits": 4, "group_size": 32, "x": {}}
    )
    quantisation = read_card(folder).quantisation
    assert quantisation is not None
    assert (quantisation.bits, quantisation.group_size) == (4, 32)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"num_hidden_layers": "4"}, "num_hidden_layers"),
        ({"num_hidden_layers": 5}, "layer 4 has no weights"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"eos_token_id": "x"}, "eos_token_id"),
        ({"quantization": {"bits": "four", "group_size": 32}}, "bits"),
    ],
)
def test_a_malformed_config_is_named(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    folder = edit(make_tiny(tmp_path / "m"), "config.json", **changes)
    with pytest.raises(ModelError, match=match):
        read_card(folder)


def test_a_folder_without_config_or_weights_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        read_card(tmp_path)
    edit(tmp_path, "config.json", model_type="llama", num_hidden_layers=1, hidden_size=8, vocab_size=8)
    with pytest.raises(ModelError, match=r"no model\*\.safetensors"):
        read_card(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="expected a JSON object"):
        read_card(tmp_path)


def test_a_truncated_weight_file_is_noticed_from_its_header(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "m")
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match="truncated"):
        read_card(folder)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_gives_a_model_error_or_a_consistent_header(tmp_path: Path, data: st.DataObject) -> None:
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    header = json.dumps({"__metadata__": {"format": "mlx"}, "a": entry}).encode()
    good = struct.pack("<Q", len(header)) + header + bytes(16)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "model.safetensors"
    file.write_bytes(bad[: data.draw(st.integers(0, len(bad)))])
    try:
        tensors = read_header(file)
    except ModelError:
        return
    assert all(tensor.data_offsets[1] <= 16 for tensor in tensors.values())
