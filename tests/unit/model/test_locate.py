from __future__ import annotations

import json
from pathlib import Path

import pytest

from nova.errors import ModelError
from nova.model.locate import hub_snapshot, is_hub_id, locate


class Hub:
    """A hub whose cache and network each hold a model, or fail."""

    def __init__(self, cached: Path | None = None, online: Path | None = None) -> None:
        self.answers = {True: cached, False: online}
        self.asked: list[tuple[str, bool]] = []

    def __call__(self, hub_id: str, offline: bool) -> Path:
        self.asked.append((hub_id, offline))
        answer = self.answers[offline]
        if answer is None:
            raise ModelError("not in the hub cache" if offline else "the hub cannot be reached")
        return answer


def model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_with_a_config_is_the_model_itself(tmp_path: Path) -> None:
    hub = Hub()
    assert locate(str(model(tmp_path / "m")), tmp_path / "home", hub) == tmp_path / "m"
    assert hub.asked == []


def test_a_plain_name_is_looked_up_under_home(tmp_path: Path) -> None:
    model(tmp_path / "models" / "smol-2.q4")
    assert locate("smol-2.q4", tmp_path, Hub()) == tmp_path / "models" / "smol-2.q4"


@pytest.mark.parametrize("name", ["../secret", "..", "a/../../secret", "../models/../secret", ".hidden", "x/../secret"])
def test_a_name_with_path_tricks_never_leaves_home(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    home = tmp_path / "a" / "home"
    model(home / "secret")
    model(home / "models" / ".hidden")
    hub = Hub()
    with pytest.raises(ModelError, match="not found"):
        locate(name, home, hub)
    assert hub.asked == []


def test_a_cached_hub_model_is_used_without_the_network(tmp_path: Path) -> None:
    hub = Hub(cached=model(tmp_path / "snapshot"))
    assert locate("org/name", tmp_path, hub) == tmp_path / "snapshot"
    assert hub.asked == [("org/name", True)]


def test_a_hub_model_that_is_not_cached_is_fetched(tmp_path: Path) -> None:
    hub = Hub(online=model(tmp_path / "snapshot"))
    assert locate("org/name", tmp_path, hub) == tmp_path / "snapshot"
    assert hub.asked == [("org/name", True), ("org/name", False)]


def test_a_missing_model_names_all_that_was_tried_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        locate("org/name", tmp_path, Hub())
    text = str(caught.value)
    assert "\n" not in text
    for part in ("org/name", "no such folder", "not in the hub cache", "the hub cannot be reached", "config.json"):
        assert part in text


def test_a_hub_snapshot_without_a_config_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate("org/name", tmp_path, Hub(cached=tmp_path, online=tmp_path))


@pytest.mark.parametrize("name", ["", "emulated:70b", "a\0b", "x" * 5000])
def test_what_cannot_be_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError):
        locate(name, tmp_path, Hub())


@pytest.mark.parametrize("name", ["org/name", "mlx-community/Qwen3-4B-4bit"])
def test_a_hub_id_is_known_by_its_form(name: str) -> None:
    assert is_hub_id(name)


@pytest.mark.parametrize("name", ["name", "emulated:seed", "../name", "a/../b", "/a/b", "a/b/c"])
def test_what_is_no_hub_id_is_not_asked_for_on_the_network(name: str) -> None:
    assert not is_hub_id(name)


def test_the_real_hub_cache_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    revision = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--org--name"
    snapshot = model(repo / "snapshots" / revision)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub_snapshot("org/name", True) == snapshot
    with pytest.raises(ModelError, match="not in the hub cache"):
        hub_snapshot("org/other", True)
    with pytest.raises(ModelError, match="HFValidationError"):
        hub_snapshot("org/na--me..", True)
