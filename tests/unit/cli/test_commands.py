"""The commands as a user types them, with a home of their own and no cluster."""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
from pathlib import Path
from typing import Any

import click
import pytest
from typer.testing import CliRunner

from nova import __version__
from nova.cli import remote
from nova.cli.app import app
from nova.cli.run import make_plan, parse_split
from nova.cli.schemas import OUTPUTS
from nova.config.load import load
from nova.errors import ConfigError, ModelError, NovaError
from tests.support.gguf import tiny_gguf
from tests.support.tiny import make_tiny

RUNNER = CliRunner()
KEY_LENGTH = 40


def nova(*arguments: str, status: int = 0) -> Any:
    result = RUNNER.invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result


def said(*arguments: str, status: int = 0) -> Any:
    """The one JSON object on standard output."""
    return json.loads(nova(*arguments, "--json", status=status).stdout)


def problem(*arguments: str) -> str:
    """The error of a command that fails: one key in JSON, and the same on standard error."""
    result = nova(*arguments, "--json", status=1)
    printed = json.loads(result.stdout)
    assert set(printed) == {"error"}
    assert " ".join(printed["error"].split()) in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    return str(printed["error"])


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_schema_prints_a_json_schema(name: str) -> None:
    schema = json.loads(nova("schema", name).stdout)
    assert schema["$ref"].removeprefix("#/$defs/") in schema["$defs"]


def test_the_version_is_printed() -> None:
    assert nova("--version").stdout.strip() == f"nova {__version__}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("schema", "nothing"),
        ("no-such-command",),
        ("run",),
        ("run", "-m", "x", "-p", "y", "--nodes", "0"),
        ("run", "-m", "x", "-p", "y", "--nodes", "17"),
        ("run", "-m", "x", "-p", "y", "--max-tokens", "0"),
        ("run", "-m", "x", "-p", "y", "--top-p", "1.5"),
        ("generate",),
        ("generate", "-p", "x", "--temperature", "-1"),
        ("keys", "trust", "b"),
        ("trace", "r1", "--last"),
        ("model", "import"),
    ],
)
def test_a_usage_error_has_status_2(arguments: tuple[str, ...], nova_home: Path) -> None:
    assert click.unstyle(nova(*arguments, status=2).output)


# --- keys -----------------------------------------------------------------------------------------------------------


def test_keys_are_made_shown_and_trusted(nova_home: Path) -> None:
    assert said("keys", "show") == {"own": {}, "trusted": {}}
    assert "no keys yet" in nova("keys", "show").stdout
    made = said("keys", "new", "a")
    assert set(made["own"]) == {"a"}
    public = made["own"]["a"]
    assert len(public) == KEY_LENGTH
    assert said("keys", "trust", "b", public)["trusted"] == {"b": public}
    assert said("keys", "show") == {"own": {"a": public}, "trusted": {"b": public}}
    plain = nova("keys", "show").stdout
    assert plain.count(public) == 2
    secret = (nova_home / "keys" / "a.key").read_text().partition("secret ")[2].strip()
    assert secret
    assert secret not in plain


def test_what_is_wrong_with_a_key_is_said(nova_home: Path) -> None:
    nova("keys", "new", "a")
    public = said("keys", "show")["own"]["a"]
    assert "a" in problem("keys", "new", "a")
    assert "not a key" in problem("keys", "trust", "b", "nonsense")
    assert "is no name" in problem("keys", "trust", "../b", public)
    said("keys", "trust", "b", public)
    assert "already trusted as 'b'" in problem("keys", "trust", "c", public)
    assert said("keys", "trust", "c", public, "--replace")["trusted"] == {"c": public}


def test_keys_go_where_the_configuration_puts_its_home(nova_home: Path, tmp_path: Path) -> None:
    file, home = tmp_path / "node.toml", tmp_path / "my other home"
    file.write_text(f"home = {json.dumps(str(home))}\n")
    public = said("keys", "new", "a", "--config", str(file))["own"]["a"]
    assert (home / "keys" / "a.key").exists()
    said("keys", "trust", "b", public, "--set", f"home={home}")
    assert said("keys", "show", "--config", str(file)) == {"own": {"a": public}, "trusted": {"b": public}}
    assert said("keys", "show") == {"own": {}, "trusted": {}}
    for command in (("show",), ("new", "a"), ("trust", "b", public)):
        assert "nowhere: cannot be read" in problem("keys", *command, "--config", str(tmp_path / "nowhere"))


def test_the_remedy_for_a_missing_key_works_as_it_is_told(nova_home: Path, tmp_path: Path) -> None:
    file, home = tmp_path / "node.toml", tmp_path / "my other home"
    file.write_text(f"home = {json.dumps(str(home))}\n")
    elsewhere = ("--config", str(file), "--set", "control.address=192.0.2.1:29200")
    hint = problem("status", *elsewhere)
    assert "no key is trusted as 'coordinator'" in hint
    remedy = shlex.split(hint.partition("with ")[2])
    public = said("keys", "new", "somebody")["own"]["somebody"]
    said("keys", "trust", "coordinator", public, *remedy)
    assert said("keys", "show", "--config", str(file))["trusted"] == {"coordinator": public}


def test_an_api_key_is_random_and_comes_with_the_hash_for_the_configuration(nova_home: Path) -> None:
    made = said("keys", "api", "--name", "bob")
    assert made["name"] == "bob"
    assert made["key"].startswith("nova-")
    assert len(made["key"]) >= 48
    assert made["hash"] == f"sha256:{hashlib.sha256(made['key'].encode()).hexdigest()}"
    assert said("keys", "api")["key"] != made["key"]
    assert list(nova_home.iterdir()) == []


def test_the_line_for_the_configuration_is_one_that_it_takes(nova_home: Path, tmp_path: Path) -> None:
    printed = nova("keys", "api", "--name", "bob # [x]").stdout
    line = next(line for line in printed.splitlines() if line.startswith("config ")).removeprefix("config").strip()
    file = tmp_path / "node.toml"
    file.write_text(f"[api]\n{line}\n")
    assert load(file, []).api.keys[0].startswith("sha256:")
    assert "[api]" in printed
    nova("keys", "api", "--name", "two\nlines", status=2)


# --- model ----------------------------------------------------------------------------------------------------------


def test_a_model_is_shown(nova_home: Path) -> None:
    make_tiny(nova_home / "models" / "tiny", layers=3)
    shown = said("model", "show", "tiny")
    assert (shown["name"], shown["model_type"], shown["layers"], shown["hidden_size"]) == ("tiny", "llama", 3, 64)
    assert shown["weight_bytes"] > 0
    assert nova("model", "show", "tiny").stdout.startswith("tiny: llama, 3 layers, ")


def test_a_gguf_is_imported_under_its_name_and_shown(nova_home: Path, tmp_path: Path) -> None:
    tiny_gguf(tmp_path / "small.gguf")
    imported = said("model", "import", str(tmp_path / "small.gguf"))
    assert imported["folder"] == str(nova_home / "models" / "small")
    assert said("model", "show", "small") == imported
    assert "small" in problem("model", "import", str(tmp_path / "small.gguf"))
    assert said("model", "import", str(tmp_path / "small.gguf"), "--overwrite") == imported
    assert said("model", "import", str(tmp_path / "small.gguf"), "--name", "other")["name"] == "other"


def test_models_lie_where_the_configuration_puts_its_home(nova_home: Path, tmp_path: Path) -> None:
    home = tmp_path / "other"
    tiny_gguf(tmp_path / "small.gguf")
    imported = said("model", "import", str(tmp_path / "small.gguf"), "--set", f"home={home}")
    assert imported["folder"] == str(home / "models" / "small")
    assert said("model", "show", "small", "--set", f"home={home}") == imported
    assert "not found" in problem("model", "show", "small")


def test_what_is_wrong_with_a_model_is_said(nova_home: Path, tmp_path: Path) -> None:
    assert "model 'nothing' not found" in problem("model", "show", "nothing")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    assert "broken.gguf" in problem("model", "import", str(broken))
    assert "missing.gguf" in problem("model", "import", str(tmp_path / "missing.gguf"))
    assert "exclude each other" in problem("model", "import", str(broken), "--name", "x", "--out", str(tmp_path / "y"))
    for name in ("../x", "a/b", ".", ".."):
        assert "is a path" in problem("model", "import", str(broken), "--name", name)


# --- run, generate, status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "split"), [("", []), ("18,12", [18, 12]), ("5", [5]), (" 1 , 2", [1, 2])])
def test_a_split_is_numbers_with_commas(text: str, split: list[int]) -> None:
    assert parse_split(text) == split


@pytest.mark.parametrize("text", ["18;12", "a", "1,", ",", "1.5,2", "1,,2"])
def test_a_split_of_anything_else_says_what_was_expected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--split: expected numbers with commas, as in 18,12"):
        parse_split(text)


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"transport": "pigeon"}, ConfigError, r"there is no transport 'pigeon'; installed are: .*tcp"),
        ({"model": "missing"}, ModelError, "model 'missing' not found"),
        ({"model": "emulated:sead"}, ModelError, "no emulated profile 'sead'; there are: seed"),
        ({"split": "58/8"}, ConfigError, "--split"),
        ({"split": "0,66"}, ConfigError, "--split: every node needs at least 1 layer, got 0,66"),
        ({"nodes": 3}, ConfigError, "--nodes: emulated:seed is made for 2 nodes, not 3"),
        ({"transport": "tcp", "settings": ['transport.deny=["tcp"]']}, ConfigError, "allows nothing"),
        (
            {"transport": "tcp", "settings": ['transport.allow=["zmq"]']},
            ConfigError,
            "tcp is asked for, but --set allows zmq",
        ),
        ({"settings": ["engine.load_s=-1"]}, ConfigError, r"--set: engine\.load_s"),
        ({"settings": ["engine.lod_s=1"]}, ConfigError, r"did you mean engine\.load_s"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_before_anything_starts(
    changes: dict[str, Any], error: type[NovaError], why: str, nova_home: Path
) -> None:
    options: dict[str, Any] = {
        "nodes": 2,
        "model": "emulated:seed",
        "split": "",
        "transport": "",
        "settings": [],
        "home": nova_home,
    }
    with pytest.raises(error, match=why):
        make_plan(**{**options, **changes})


def test_a_plan_names_its_nodes_and_finds_its_model(nova_home: Path) -> None:
    folder = make_tiny(nova_home / "models" / "tiny", layers=3)
    plan = make_plan(2, "tiny", "2,1", "tcp", ["log.level=debug"], nova_home)
    assert (plan.names, plan.model, plan.split) == (["node-1", "node-2"], str(folder), [2, 1])
    assert (plan.transports, plan.settings) == (["tcp"], ["log.level=debug"])
    assert make_plan(2, "emulated:seed", "", "", [], nova_home).model == "emulated:seed"


def test_a_run_that_cannot_start_fails_in_one_line(nova_home: Path) -> None:
    assert "not found" in problem("run", "-m", "missing", "-p", "hello")
    elsewhere = nova_home / "elsewhere"
    assert str(elsewhere) in problem("run", "-m", "missing", "-p", "hello", "--set", f"home={elsewhere}")
    assert "pigeon" in problem("run", "-m", "emulated:seed", "-p", "hello", "--transport", "pigeon")


def test_without_a_coordinator_the_commands_say_what_to_look_at(
    nova_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
    said_so = problem("status", "--set", f"control.address={address}")
    assert f"coordinator at {address} does not answer" in said_so
    assert "is its nova-node running" in said_so


@pytest.mark.parametrize("command", [("generate", "-p", "hello"), ("status",), ("explain",), ("trace",)])
def test_without_a_coordinator_s_key_the_commands_say_how_to_get_it(command: tuple[str, ...], nova_home: Path) -> None:
    elsewhere = "control.address=192.0.2.1:29200"  # an address kept for examples; nothing is sent to it
    assert "no key is trusted as 'coordinator'" in problem(*command, "--set", elsewhere)
    assert "nowhere.toml: cannot be read" in problem(*command, "--config", str(nova_home / "nowhere.toml"))
