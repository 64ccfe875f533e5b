from __future__ import annotations

from pathlib import Path

import pytest

from nova.errors import ConfigError
from nova.plan.chips import GIB
from nova.plan.costmodel import at
from nova.plan.inputs import ModelFigures
from nova.plan.nodes import KINDS, MAX_BYTES, read_nodes
from nova.wire.plans import LinkProfile, NodeProfile
from tests.unit.plan.test_chips import REPORTED

EXAMPLE = Path(__file__).parents[3] / "conf" / "nodes-example.toml"
TWO = """
[[node]]
name = "a"
chip = "M4 Max"
memory_gb = 128

[[node]]
name = "b"
layer_ms = 3.0
head_ms = 12.0
memory_gb = 24
"""


def read(folder: Path, text: str, model: ModelFigures = REPORTED) -> tuple[dict[str, NodeProfile], list[LinkProfile]]:
    path = folder / "nodes.toml"
    path.write_text(text)
    nodes, links = read_nodes(path, model)
    return {node.name: node for node in nodes}, links


def test_the_example_describes_the_reports_machines_and_two_more() -> None:
    nodes, links = read_nodes(EXAMPLE, REPORTED)
    assert [node.name for node in nodes] == ["max", "mini", "studio", "pro"]
    assert [node.memory_bytes // GIB for node in nodes] == [96, 16, 192, 48]
    cables = {(link.sender, link.receiver): link for link in links}
    assert len(cables) == 12
    assert cables["max", "mini"].latency_s == cables["mini", "max"].latency_s == 0.0015
    assert cables["max", "mini"].bandwidth_bytes_s == 3e9
    assert cables["studio", "pro"].bandwidth_bytes_s == KINDS["thunderbolt5"].bandwidth
    assert cables["mini", "pro"].source == KINDS["ethernet10"].source


def test_a_node_without_a_chip_has_the_times_it_says(tmp_path: Path) -> None:
    nodes, links = read(tmp_path, TWO + "fixed_ms = 0\nusable_gb = 20\nbandwidth_gb_s = 120\n")
    node = nodes["b"]
    assert at(node.layer_s, 1) == pytest.approx(0.003)
    assert at(node.head_s, 1) == pytest.approx(0.012)
    assert (node.fixed_s, node.memory_bytes, node.bandwidth) == (0, 20 * GIB, 120e9)
    assert at(node.layer_s, 512) == pytest.approx(64 * at(node.layer_s, 8))
    assert links == []


def test_a_head_without_a_time_takes_what_its_bytes_take(tmp_path: Path) -> None:
    nodes, _ = read(tmp_path, TWO.replace("head_ms = 12.0", ""))
    assert at(nodes["b"].head_s, 1) == pytest.approx(0.003 * 720 / 215)


def test_a_chips_efficiency_fixed_cost_and_memory_can_be_said(tmp_path: Path) -> None:
    plain, _ = read(tmp_path, TWO)
    said, _ = read(
        tmp_path, TWO.replace("memory_gb = 128", "memory_gb = 128\nefficiency = 0.425\nfixed_ms = 5\nusable_gb = 110")
    )
    assert at(said["a"].layer_s, 1) == pytest.approx(2 * at(plain["a"].layer_s, 1))
    assert said["a"].fixed_s == 0.005
    assert said["a"].memory_bytes == 110 * GIB


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_of_a_kind_has_what_is_known_of_it_both_ways(tmp_path: Path, kind: str) -> None:
    _, links = read(tmp_path, TWO + f'[[link]]\nbetween = ["b", "a"]\nkind = "{kind}"\n')
    assert {(link.sender, link.receiver) for link in links} == {("a", "b"), ("b", "a")}
    for link in links:
        assert (link.latency_s, link.bandwidth_bytes_s, link.source) == (
            KINDS[kind].latency_s, KINDS[kind].bandwidth, KINDS[kind].source,
        )  # fmt: skip


def test_a_link_can_be_described_without_a_kind(tmp_path: Path) -> None:
    _, links = read(tmp_path, TWO + '[[link]]\nbetween = ["a", "b"]\nlatency_ms = 0\nbandwidth_gb_s = 2\n')
    assert [(link.latency_s, link.bandwidth_bytes_s) for link in links] == [(0, 2e9), (0, 2e9)]
    assert "link 1" in links[0].source


LINK = '[[link]]\nbetween = ["a", "b"]\nkind = "wifi"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["has no [[node]]"]),
        ("node = 3", ["node:", "[[node]]"]),
        ("[[node]\n", ["is not valid TOML"]),
        (TWO + "[[nodes]]\n", ["nodes is not known", "[[node]]"]),
        (TWO.replace("layer_ms", "layers_ms"), ["node 2", "layers_ms"]),
        (TWO.replace("24", '"24"'), ["node 2", "memory_gb", "float"]),
        (TWO.replace("24", "inf"), ["node 2", "memory_gb"]),
        (TWO.replace("24", "-1"), ["node 2", "memory_gb", "> 0"]),
        (TWO.replace('"b"', '"a"'), ["node 2", "'a' already"]),
        (TWO.replace("layer_ms = 3.0", ""), ["node 2 (b)", "chip or layer_ms"]),
        (TWO.replace('"M4 Max"', '"M4 Max"\nlayer_ms = 1'), ["node 1 (a)", "chip or layer_ms"]),
        (TWO.replace('"M4 Max"', '"M4 Max"\nhead_ms = 1'), ["node 1 (a)", "head_ms"]),
        (TWO.replace("M4 Max", "M4 Mux"), ["node 1", "M4 Max"]),
        (TWO.replace("128", "512"), ["node 1", "at most 128 GB"]),
        (TWO + LINK + LINK, ["link 2", "no other"]),
        (TWO + LINK.replace('"b"', '"a"'), ["link 1", "two nodes"]),
        (TWO + LINK.replace('"b"', '"c"'), ["link 1", "is called c"]),
        (TWO + LINK.replace("wifi", "string"), ["link 1", "kind"]),
        (TWO + LINK.replace('kind = "wifi"', "latency_ms = 1"), ["link 1", "thunderbolt4", "bandwidth_gb_s"]),
        (TWO + "[default_link]\n", ["default_link", "thunderbolt4"]),
        (TWO + '[default_link]\nbetween = ["a", "b"]\n', ["default_link", "between"]),
        ("#" * (MAX_BYTES + 1), ["larger than"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_file_and_entry(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text)
    for word in [str(tmp_path / "nodes.toml"), *words]:
        assert word in str(refused.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_nodes(tmp_path / "none.toml", REPORTED)
