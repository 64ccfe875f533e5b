"""`nova transports new`: a plugin that works as it was written, and never over anything that is there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nova.cli import scaffold
from nova.cli.app import app
from nova.errors import ConfigError
from tests.structure.project import ROOT
from tests.support.plugin import installed

LIMIT_S = 60.0
KIT_LIMIT_S = 120.0
WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8)


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder, _ = scaffold.write("my-fast_link", tmp_path)
    return folder


@given(st.lists(WORDS, min_size=1, max_size=4), st.sampled_from("-_"))
def test_a_name_of_words_gives_a_package_a_class_and_a_distribution(words: list[str], joint: str) -> None:
    name = joint.join(["my", *words])
    values = scaffold.names(name)
    assert values["package"].isidentifier()
    assert values["title"].isidentifier()
    assert re.fullmatch(r"[a-z0-9-]+", values["dashed"])


@pytest.mark.parametrize("name", ["", "Tcp", "9p", "a b", "../x", "a/b", "-a", "a-", "a--b", "a" * 41, "ä", "a\n"])
def test_what_is_no_name_is_refused_with_what_is_allowed(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lower-case letters and digits"):
        scaffold.write(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "why"), [("tcp", "already, nova_transport_tcp"), ("memory", "kept for Nova itself")])
def test_a_name_that_is_taken_is_refused(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=why):
        scaffold.write(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(plugin: Path, tmp_path: Path) -> None:
    (plugin / "README.md").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        scaffold.write("my-fast-link", tmp_path)
    assert (plugin / "README.md").read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is not a folder"):
        scaffold.write("mine", tmp_path / "nowhere")


def test_the_command_says_what_it_wrote(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["transports", "new", "mine", "--in", str(tmp_path), "--json"])
    printed = json.loads(result.stdout)
    folder = Path(printed["folder"])
    assert folder == tmp_path / "nova-transport-mine"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {*printed["files"]}
    assert {"pyproject.toml", "README.md", "nova_transport_mine/group.py"} <= {*printed["files"]}
    refused = CliRunner().invoke(app, ["transports", "new", "mine", "--in", str(tmp_path), "--json"])
    assert refused.exit_code == 1
    assert "is there already" in json.loads(refused.stdout)["error"]


def test_the_template_is_part_of_the_package() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["nova"]
    shipped = {path for pattern in patterns for path in (ROOT / "nova").glob(pattern)}
    written = {path for path in (ROOT / "nova" / "testing" / "template").rglob("*") if path.is_file()}
    assert written
    assert written <= shipped


def test_no_placeholder_is_left(plugin: Path) -> None:
    for path in plugin.rglob("*"):
        assert "$" not in path.name
        assert path.is_dir() or "$" not in path.read_text()


def test_it_is_formatted_and_in_order(plugin: Path) -> None:
    config = str(ROOT / "pyproject.toml")
    for command in (["check"], ["format", "--check"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", config, "."],
            cwd=plugin, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_nova_lists_it_once_it_is_installed(plugin: Path) -> None:
    load = "from nova.transport.registry import load_transport as t; print(t('my-fast_link').probe(['127.0.0.1']).name)"
    ran = subprocess.run(
        [sys.executable, "-c", load], env=installed(plugin), capture_output=True, text=True, timeout=LIMIT_S
    )
    assert ran.stdout.strip() == "my-fast_link", ran.stderr


def test_it_keeps_the_contract_as_it_was_written(plugin: Path) -> None:
    """In the way of an author: pytest in the plugin's folder, with nothing of Nova's own tests."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=plugin, env=installed(plugin), capture_output=True, text=True, timeout=KIT_LIMIT_S,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\d\d passed", ran.stdout), ran.stdout
