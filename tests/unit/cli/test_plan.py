"""`nova plan`: what the coordinator is asked, what a file of nodes comes to, and what a program gets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from nova.cli import plan as command
from nova.cli.plan import Plan, parse_split, rule
from nova.errors import ConfigError, ControlError
from nova.model.card import read_card
from nova.plan import strategies
from nova.plan.inputs import Question
from nova.wire.plans import PlanReport
from nova.wire.requests import PlanQuery
from tests.support.tiny import make_tiny
from tests.unit.cli.planreport import cells, reported

EXAMPLE = Path(__file__).parents[3] / "conf/nodes-example.toml"
RUNNER = CliRunner()
APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(command.command)


@pytest.mark.parametrize("text", ["a", "a=", "=4", "a=0", "a=-1", "a=x", "a=4,", "a=" + "9" * 5000, "a=\u0664"])
def test_a_split_that_is_none_is_told_what_one_is(text: str) -> None:
    with pytest.raises(ConfigError, match="expected layers by node, in pipeline order, as a=40,b=24"):
        parse_split(text)


def test_a_split_by_hand_leaves_nothing_to_choose() -> None:
    assert rule("auto", by_hand=True) == rule("manual", by_hand=True) == "manual"
    assert rule("spread", by_hand=False) == "spread"
    with pytest.raises(ConfigError, match="--strategy latency is to choose that"):
        rule("latency", by_hand=True)


def test_json_has_every_field_of_the_report_also_those_at_their_defaults() -> None:
    assert Plan.__struct_fields__ == PlanReport.__struct_fields__
    bare = reported(advice="", alternatives=[], excluded={}, notes=[])
    printed = json.loads(msgspec.json.encode(Plan.of(bare)))
    assert set(printed) == set(PlanReport.__struct_fields__)
    assert msgspec.json.decode(json.dumps(printed), type=PlanReport) == bare
    assert msgspec.json.schema(Plan)["$ref"].endswith("Plan")


# --- the command ----------------------------------------------------------------------------------------------------


def nova(*arguments: str, status: int = 0) -> Any:
    result = RUNNER.invoke(APP, list(arguments), env={"COLUMNS": "120"})
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    return result


class Coordinator:
    """In place of a session: keeps what it was asked, and answers with a report or an error."""

    def __init__(self, answer: PlanReport | ControlError) -> None:
        self.answer = answer
        self.asked: list[PlanQuery] = []

    async def plan(self, query: PlanQuery, deadline_s: float) -> PlanReport:
        self.asked.append(query)
        if isinstance(self.answer, ControlError):
            raise self.answer
        return self.answer

    @asynccontextmanager
    async def connect(self, config: Path | None, settings: list[str]) -> AsyncIterator[Coordinator]:
        yield self


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> Coordinator:
    made = Coordinator(reported())
    monkeypatch.setattr(command, "connect", made.connect)
    return made


def test_without_a_file_the_coordinator_is_asked_and_what_is_left_out_is_its_own(coordinator: Coordinator) -> None:
    assert "laptop alone is faster" in nova().stdout
    (query,) = coordinator.asked
    assert query == PlanQuery(query.request, strategy="auto")


def test_every_option_reaches_the_coordinator(coordinator: Coordinator) -> None:
    workload = ["--context", "9", "--batch", "8", "--prompt", "7", "--acceptance", "0"]
    nova("m", *workload, "--pin", "a", "--pin", "b", "--exclude", "c", "--split", "a=4,b=2", "--from-running")
    (query,) = coordinator.asked
    assert query == PlanQuery(
        query.request, "m", "manual", 9, 8, 7, 0.0, ["a", "b"], ["c"], [("a", 4), ("b", 2)], measured=True
    )


def test_the_coordinators_plan_as_json_is_one_object(coordinator: Coordinator) -> None:
    printed = json.loads(nova("m", "--json").stdout)
    assert printed["stages"][1]["first_layer"] == 58
    assert printed["prediction"]["tok_s"] == 9.17


def test_a_coordinator_that_cannot_plan_says_why(coordinator: Coordinator) -> None:
    coordinator.answer = ControlError("mini could not be measured: no such model there")
    result = nova("m", "--json", status=1)
    assert json.loads(result.stdout) == {"error": "mini could not be measured: no such model there"}
    assert "ControlError: mini could not be measured" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("m", "--nodes", "f", "--from-running"), ("--nodes", "f"), ("m", "--strategy", "luck")]
)
def test_options_that_make_no_sense_are_a_wrong_use(arguments: tuple[str, ...]) -> None:
    nova(*arguments, status=2)


# --- a nodes file ---------------------------------------------------------------------------------------------------

NODES = """
[default_link]
latency_ms = 1.5
bandwidth_gb_s = 4

[[node]]
name = "fast"
memory_gb = 64
layer_ms = 1.0
fixed_ms = 0
head_ms = 3.0

[[node]]
name = "slow"
memory_gb = 24
layer_ms = 3.0
fixed_ms = 0
head_ms = 12.0
"""


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of two nodes, and no coordinator that could be asked."""
    monkeypatch.setenv("NOVA_HOME", str(tmp_path / "home"))
    path = tmp_path / "nodes.toml"
    path.write_text(NODES)
    return str(path)


def test_a_file_of_nodes_is_planned_for_without_a_cluster_and_one_node_alone_is_the_advice(nodes: str) -> None:
    text = nova("emulated:m5dense", "--nodes", nodes).stdout
    assert text.startswith("fast alone is fastest")
    assert cells(text, "0 fast")[1] == "0-47"
    assert cells(text, "0 fast")[4] == "51.00", "48 layers of 1 ms, and the head"
    assert "slow has no stage" in text


def test_a_split_by_hand_is_judged_as_it_stands(nodes: str) -> None:
    printed = json.loads(nova("emulated:m5dense", "--nodes", nodes, "--split", "slow=8,fast=40", "--json").stdout)
    assert printed["strategy"] == "manual"
    assert [(each["node"], each["first_layer"], each["layers"]) for each in printed["stages"]] == [
        ("slow", 0, 8), ("fast", 8, 40),
    ]  # fmt: skip
    assert printed["stages"][0]["step_s"] == pytest.approx(0.024)


def test_the_configuration_says_what_the_options_leave_out(nodes: str) -> None:
    settings = ["--set", "plan.batch=6", "--set", "plan.acceptance=0.5", "--set", "plan.context=100"]
    printed = json.loads(nova("emulated:m5dense", "--nodes", nodes, *settings, "--batch", "2", "--json").stdout)
    assert (printed["batch"], printed["acceptance"], printed["context"], printed["prompt"]) == (2, 0.5, 100, 512)


def test_pinned_and_excluded_nodes_are_heeded(nodes: str) -> None:
    pinned = json.loads(nova("emulated:m5dense", "--nodes", nodes, "--pin", "slow", "--json").stdout)
    assert {each["node"] for each in pinned["stages"]} >= {"slow"}
    without = json.loads(nova("emulated:m5dense", "--nodes", nodes, "--exclude", "fast", "--json").stdout)
    assert [each["node"] for each in without["stages"]] == ["slow"]
    assert without["excluded"] == {"fast": "--exclude names it"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--pin", "slwo"], "--pin: slwo is not in"),
        (["--exclude", "x"], "--exclude: x is not in"),
        (["--split", "fast=47,x=1"], "--split: x is not in"),
        (["--split", "fast=47"], "the model has 48: 1 would run on no stage"),
        (["--exclude", "slow", "--exclude", "fast"], "there is no node to plan with"),
        (["--split", "fast=48", "--strategy", "spread"], "--strategy spread is to choose that"),
        (["--set", "plan.batch=0"], "plan.batch"),
    ],
)
def test_what_cannot_be_planned_says_why_and_ends_with_status_1(nodes: str, options: list[str], reason: str) -> None:
    result = nova("emulated:m5dense", "--nodes", nodes, *options, "--json", status=1)
    assert reason in json.loads(result.stdout)["error"]
    assert reason in " ".join(result.stderr.split())


def test_the_example_of_the_help_plans_a_real_folder_by_the_chips_that_it_names(tmp_path: Path) -> None:
    model = make_tiny(tmp_path / "tiny")
    printed = json.loads(nova(str(model), "--nodes", str(EXAMPLE), "--pin", "mini", "--json").stdout)
    assert sum(stage["layers"] for stage in printed["stages"]) == read_card(model).layers
    assert all(0 < stage["weight_bytes"] < stage["used_bytes"] < stage["memory_bytes"] for stage in printed["stages"])
    assert "mini" in {stage["node"] for stage in printed["stages"]}


def test_a_file_that_is_not_there_and_a_model_that_is_not_are_told(nodes: str) -> None:
    assert "none.toml: cannot be read" in nova("emulated:m5dense", "--nodes", "none.toml", status=1).stderr
    assert "ModelError: model 'none' not found" in nova("none", "--nodes", nodes, status=1).stderr


def test_a_plan_that_takes_long_says_what_it_is_at(nodes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = Event()

    class Listening(Console):
        def print(self, *words: Any, **_: Any) -> None:
            if "placing 48 layers on 2 nodes" in words:
                said.set()

    def slow(question: Question) -> PlanReport:
        assert said.wait(20), "no notice came"
        return reported()

    monkeypatch.setattr(command, "PATIENCE_S", 0.01)
    monkeypatch.setattr(command, "err", Listening())
    monkeypatch.setattr(strategies, "plan", slow)
    nova("emulated:m5dense", "--nodes", nodes)
