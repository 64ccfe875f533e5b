"""One line says which file, which key and what was expected."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import pytest

from nova.config.load import load
from nova.config.schema import Engine, NodeConfig
from nova.errors import ConfigError

PLANNED = "[deployment]\nmodel = 'm'\nnodes = ['a', 'b']\n[plan]\n"


def refusal(path: Path | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def test_no_file_and_no_override_gives_the_defaults() -> None:
    assert load(None) == NodeConfig()


def test_a_worker_may_be_told_what_only_the_coordinator_plans() -> None:
    assert load(None, ["plan.pin=['a']", "plan.exclude=['b']"]).plan.pin == ["a"]


def test_a_file_needs_only_the_keys_that_differ(file: Path) -> None:
    file.write_text('name = "a"\n[engine]\nload_s = 5\n')
    config = load(file)
    assert (config.name, config.engine.load_s, config.engine.join_s) == ("a", 5.0, 5.0)


def test_an_override_wins_over_the_file_and_a_later_one_over_an_earlier(file: Path) -> None:
    file.write_text("[engine]\nload_s = 5\nthreads = 3\n")
    config = load(file, ["engine.load_s=6", "engine.load_s=7"])
    assert (config.engine.load_s, config.engine.threads) == (7.0, 3)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("transport.security=none", "none"),
        ('home="a = b"', "a = b"),
        ("control.address=10.0.0.2:1", "10.0.0.2:1"),
        ("control.address=mac_1.local:1", "mac_1.local:1"),
        ("control.address=[fe80::1]:1", "[fe80::1]:1"),
        ("control.address=::1:1", "::1:1"),
        ('transport.order=["zmq"]', ["zmq"]),
        ("transport.options.tcp.streams=4", {"tcp": {"streams": 4}}),
        ("role=coordinator", "coordinator"),
        ("home=", ""),
        ("engine={ threads = 2 }", Engine(threads=2)),
    ],
)
def test_an_override_is_read_as_toml_and_else_as_a_plain_string(override: str, value: object) -> None:
    key = override.partition("=")[0].partition(".tcp")[0]
    assert attrgetter(key)(load(None, [override])) == value


def test_an_override_cannot_smuggle_in_a_second_key() -> None:
    assert load(None, ["home=1\nname = 'x'"]).name == ""


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        (
            "[engine]\nprefil_chunk = 1\n",
            ["engine.prefil_chunk", "is not an option", "did you mean engine.prefill_chunk"],
        ),
        ("heartbeat_s = 1.0\n", ["heartbeat_s", "did you mean control.heartbeat_s"]),
        ("[engin]\n", ["engin:", "did you mean engine"]),
        ("[zzz]\n", ["zzz", "conf/nova.toml"]),
        ("[engine]\nthreads = 'two'\n", ["engine.threads", "expected a whole number >= 0", "'two'"]),
        ("[engine]\nprefill_chunk = 0\n", ["engine.prefill_chunk", "expected a whole number >= 1", "got 0"]),
        ("[control]\nheartbeat_s = 0\n", ["control.heartbeat_s", "expected a finite number > 0"]),
        ("[control]\nheartbeat_s = inf\n", ["control.heartbeat_s", "finite", "inf"]),
        ("[control]\nheartbeat_s = nan\n", ["control.heartbeat_s", "finite", "nan"]),
        ("[engine]\nthreads = true\n", ["engine.threads", "whole number", "True"]),
        ("[engine]\ncpus = [0, 'a']\n", ["engine.cpus", "a list, each item a whole number", "'a'"]),
        ("engine = 3\n", ["engine", "expected a table", "got 3"]),
        ("role = 'boss'\n", ["role", "'coordinator', 'worker'", "'boss'"]),
        ("[log]\nlevel = 'loud'\n", ["log.level", "one of", "'loud'"]),
        ("[transport.options]\ntcp = 3\n", ["transport.options", "a table of tables"]),
        ("name = 'a b'\n", ["name", "'a b'"]),
        ('name = "a\\n"\n', ["name"]),
        ("[control]\naddress = 'nowhere'\n", ["control.address", "host:port"]),
        ("[control]\naddress = 'a:70000'\n", ["control.address", "65535"]),
        ("[control]\naddress = 'a:٣'\n", ["control.address", "65535"]),
        ("[control]\naddress = 'my host:1'\n", ["control.address", "host name or numeric address", "'my host'"]),
        ("[control]\naddress = 'a/b:1'\n", ["control.address", "'a/b'"]),
        ("[control]\naddress = 'a..b:1'\n", ["control.address", "'a..b'"]),
        ("[control]\naddress = '[zz:]:1'\n", ["control.address", "'[zz:]'"]),
        ("[control]\ndead_after_s = 0.5\n", ["control.dead_after_s", "longer than control.heartbeat_s"]),
        ("[control]\nreconnect_max_s = 0.1\n", ["control.reconnect_max_s", "control.reconnect_s"]),
        ("[deployment]\nretry_max_s = 0.1\n", ["deployment.retry_max_s", "deployment.retry_s (1.0 s)"]),
        ("[transport]\nhosts = ['my mini']\n", ["transport.hosts[0]", "address or a name", "my mini"]),
        ("[transport]\nhosts = ['0.0.0.0']\n", ["transport.hosts[0]", "can dial"]),
        ("[transport]\nhosts = []\n", ["transport.hosts"]),
        ("[transport]\norder = []\n", ["transport.order", "allows nothing"]),
        ("[transport]\norder = ['tcp']\ndeny = ['tcp']\n", ["transport.order", "allows nothing"]),
        ("[transport]\ntrusted = ['home']\n", ["transport.trusted[0]", "loopback", "'home'"]),
        ("[transport]\nhold_max_s = 1\n", ["transport.hold_max_s", "hold_s"]),
        ("[transport]\norder = ['tcp', 'tcp']\n", ["transport.order", "'tcp'", "twice"]),
        ("[deployment]\nmodel = 'm'\n", ["deployment.nodes", "is empty"]),
        ("[deployment]\nnodes = ['a']\n", ["deployment.model", "is empty"]),
        ("[deployment]\nmodel = 'm'\nnodes = ['a', 'b', 'a']\n", ["deployment.nodes", "'a'", "twice"]),
        ("[deployment]\nmodel = 'm'\nnodes = ['a', 'b']\nsplit = [3]\n", ["deployment.split", "1 numbers for 2 nodes"]),
        (
            "[deployment]\nmodel = 'm'\nnodes = ['a', 'b']\nsplit = [3, 0]\n",
            ["deployment.split[1]", "at least 1 layer"],
        ),
        (f"{PLANNED}pin = ['a', 'c']\n", ["plan.pin[1]", "'c' is not in deployment.nodes", "a, b"]),
        (f"{PLANNED}exclude = ['c']\n", ["plan.exclude[0]", "'c' is not in deployment.nodes"]),
        (f"{PLANNED}pin = ['a']\nexclude = ['a']\n", ["plan.exclude", "'a' is in plan.pin"]),
        (f"{PLANNED}exclude = ['a', 'b']\n", ["plan.exclude", "leaves no node"]),
        (f"{PLANNED}strategy = 'best'\n", ["plan.strategy", "one of", "'latency'"]),
        (f"{PLANNED}acceptance = 1.0\n", ["plan.acceptance"]),
        (
            "[deployment]\nmodel = 'm'\nnodes = ['a']\nsplit = [3]\n[plan]\nstrategy = 'auto'\n",
            ["deployment.split", "finds its own"],
        ),
        ("[deployment]\nmodel = 'm'\nnodes = ['a/b']\n", ["deployment.nodes", "a list, each item a name of letters"]),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_was_expected(file: Path, toml: str, parts: list[str]) -> None:
    file.write_text(toml)
    text = refusal(file)
    assert text.startswith(f"{file}: ")
    for part in parts:
        assert part in text


@pytest.mark.parametrize(
    "override", ["engine.threads=-1", "engine.thread=1", "transport.security=x", "engine={threads=-1}"]
)
def test_what_an_override_broke_is_blamed_on_set_and_not_on_the_file(file: Path, override: str) -> None:
    file.write_text("[engine]\nload_s = 5\n")
    assert refusal(file, override).startswith("--set: ")


def test_what_the_file_broke_is_not_blamed_on_an_override(file: Path) -> None:
    file.write_text("[engine]\nload_s = -5\n")
    assert refusal(file, "engine.threads=1").startswith(f"{file}: engine.load_s: ")


@pytest.mark.parametrize("override", ["engine.threads", "=3", "engine.=3", ".name=3", ""])
def test_an_override_that_is_no_assignment_is_refused(override: str) -> None:
    assert "KEY=VALUE" in refusal(None, override)


def test_an_override_below_a_plain_value_is_refused(file: Path) -> None:
    file.write_text("name = 'a'\n")
    assert "name is not a table" in refusal(file, "name.first=3")


def test_invalid_toml_is_refused_with_its_line(file: Path) -> None:
    file.write_text("name = 'a'\nrole = \n")
    assert "line 2" in refusal(file)


def test_a_missing_file_a_folder_and_a_binary_are_refused_by_name(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"name = '\xff'")
    assert "No such file" in refusal(tmp_path / "none.toml")
    assert "directory" in refusal(tmp_path)
    assert "UTF-8" in refusal(binary)
