"""`nova sim`: a cluster on paper in figures, for people and as JSON, and every wrong option with its reason."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from nova.cli import sim
from nova.cli.show_sim import simulated
from nova.errors import ConfigError
from nova.sim.result import Lost, Queue, SimReport, Spread, StageLoad

NODES = """
[default_link]
kind = "thunderbolt5"

[[node]]
name = "slow"
memory_gb = 64
layer_ms = 3.0

[[node]]
name = "fast"
memory_gb = 64
layer_ms = 1.0
"""

app = typer.Typer()
app.command()(sim.command)


def ran(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == status, result.output
    return result.stdout


def figures(*arguments: str) -> SimReport:
    return msgspec.json.decode(ran(*arguments, "--json"), type=sim.Simulated).report


def test_one_stream_has_the_pace_of_the_stages_and_hops() -> None:
    found = figures("--emulated", "m5dense", "--stages", "2", "--streams", "1", "--requests", "1", "--prompt", "1",
                    "--tokens", "50", "--hop-ms", "1", "--hop-gb-s", "1000")  # fmt: skip
    assert found.gap_s.p50 == pytest.approx(0.0764 + 0.002, rel=1e-3)
    assert found.tokens == 50


def test_the_same_seed_prints_the_same_and_another_one_something_else() -> None:
    asked = ("--emulated", "m5dense", "--requests", "5", "--rate", "2", "--tokens", "5")
    assert ran(*asked, "--seed", "3") == ran(*asked, "--seed", "3") != ran(*asked, "--seed", "4")


def test_a_killed_node_is_told_and_costs_no_token() -> None:
    asked = ("--emulated", "m5dense", "--stages", "3", "--requests", "4", "--tokens", "20", "--kill", "node-2@1")
    found = figures(*asked, "--pause", "2")
    assert found.tokens == 80
    assert [(lost.node, lost.at_s) for lost in found.faults] == [("node-2", 1.0)]
    assert [each.node for each in found.busy] == ["node-1", "node-3"]
    assert "node-2 died at 1 s" in ran(*asked)


def test_nodes_of_a_file_are_planned_and_the_dead_one_s_layers_go_to_the_others(tmp_path: Path) -> None:
    file = tmp_path / "nodes.toml"
    file.write_text(NODES)
    asked = ("--nodes", str(file), "--model", "emulated:m5dense", "--streams", "1", "--requests", "1", "--prompt", "1",
             "--tokens", "20", "--strategy", "latency")  # fmt: skip
    assert [each.node for each in figures(*asked).busy] == ["fast"]
    survived = figures(*asked, "--kill", "fast@0.1", "--pause", "1")
    assert [each.node for each in survived.busy] == ["slow"]
    assert survived.tokens == 20


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--emulated", "nonsense"), "no emulated profile"),
        (("--emulated", "m5dense", "--kill", "node-9@1"), "there is no node-9; the nodes are node-1, node-2"),
        (("--emulated", "m5dense", "--kill", "node-1"), "expected NODE@SECONDS"),
        (("--emulated", "m5dense", "--stages", "1", "--kill", "node-1@0.1"), "every node has died"),
        (("--emulated", "m5dense", "--stages", "49"), "48 layers cannot fill 49 stages"),
        (("--emulated", "seed", "--stages", "3"), "has times for 2 stages only"),
    ],
)
def test_what_cannot_be_simulated_ends_with_its_reason(arguments: tuple[str, ...], why: str) -> None:
    assert why in json.loads(ran(*arguments, "--json", status=1))["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--emulated", "m5dense", "--nodes", "f"),
        ("--nodes", "f"),
        ("--emulated", "m5dense", "--streams", "2", "--rate", "1"),
        ("--emulated", "m5dense", "--requests", "100000", "--prompt", "1000"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments: tuple[str, ...]) -> None:
    ran(*arguments, status=2)


@pytest.mark.parametrize("text", ["", "@1", "a@", "a@x", "a@-1", "a@inf", "a@nan"])
def test_a_fault_needs_a_node_and_a_moment(text: str) -> None:
    with pytest.raises(ConfigError, match="NODE@SECONDS"):
        sim.parse_kill(text)


def shown(report: SimReport, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(simulated(report))
    return out.getvalue()


def test_of_many_stages_the_busiest_are_listed_in_pipeline_order() -> None:
    busy = [StageLoad(stage, f"[b]n{stage}", stage / 40) for stage in range(40)]
    report = SimReport(
        40, 3, 1, 30, 2.0, 15.0, Spread(0.5, 1.5, 3), Spread(0.0, 0.0, 0), Queue(0.5, 2), busy, 99,
        [Lost("[b]n7", 1.0, 4, 2)], 2.5,
    )  # fmt: skip
    text = shown(report)
    assert "15.0 tok/s in all" in text
    assert "none came" in text
    assert "and 30 stages that are less busy" in text
    assert [line.split("[b]")[1].split()[0] for line in text.splitlines() if "%" in line] == [
        f"n{stage}" for stage in range(30, 40)
    ]
    assert "[b]n7 died at 1 s: 4 chunks" in text
    assert "for 2.5 s no group served" in text
    assert max(map(len, text.splitlines())) <= 80
