"""The files in conf/ say what the code does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.config.load import load
from nova.config.options import tables
from nova.config.render import render, toml
from nova.config.schema import NodeConfig

CONF = Path(__file__).parents[3] / "conf"
FILES = [path for path in sorted(CONF.glob("*.toml")) if not path.name.startswith("nodes-")]
"""Of nodes; the others describe machines to plan for."""


def test_nova_toml_is_what_the_schema_prints() -> None:
    assert (CONF / "nova.toml").read_text() == render(), "run: python -m nova.config.render > conf/nova.toml"


def test_nova_toml_loads_as_the_defaults() -> None:
    assert load(CONF / "nova.toml", []) == NodeConfig()


def test_every_option_has_help_and_every_option_is_in_the_file() -> None:
    text = (CONF / "nova.toml").read_text()
    options = [option for table in tables() for option in table.options]
    assert len(options) > 25
    for option in options:
        assert option.help, option.key
        assert option.help in text, option.key


def test_every_duration_and_size_says_its_unit() -> None:
    units = {"_s": "s; ", "_bytes": "bytes; "}
    for table in tables():
        for option in table.options:
            for suffix, unit in units.items():
                assert not option.key.endswith(suffix) or option.help.startswith(unit), option.key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_loads_and_leaves_room_to_add_plugin_options(path: Path) -> None:
    load(path, [])
    extended = tomllib.loads(path.read_text() + "\n[transport.options.tcp]\nstreams = 2\n")
    assert extended["transport"]["options"]["tcp"] == {"streams": 2}


def test_the_loopback_file_serves_both_daemons() -> None:
    path = CONF / "loopback.toml"
    coordinator = load(path, [])
    worker = load(path, ["role=worker", "name=worker"])
    assert [coordinator.name, worker.name] == coordinator.deployment.nodes
    assert coordinator.control == worker.control
    assert coordinator.control.coordinator == coordinator.name


def test_the_two_macs_file_serves_both_macs() -> None:
    path = CONF / "two-macs.toml"
    big = load(path, [])
    mini = load(path, ["role=worker", "name=mini", "transport.hosts=['192.168.2.2']"])
    assert [big.name, mini.name] == big.deployment.nodes
    assert big.control.coordinator == big.name
    assert big.control.address.startswith(f"{big.transport.hosts[0]}:")
    assert mini.transport.hosts != big.transport.hosts
    assert sum(big.deployment.split) == 64


scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(values)
def test_every_printed_value_reads_back_as_itself(value: object) -> None:
    assert tomllib.loads(f"value = {toml(value)}")["value"] == value
