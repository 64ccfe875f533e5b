"""`nova profile`: a table, an object, or one line of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from typer.testing import CliRunner

from nova.cli import profile

app = typer.Typer()
app.command()(profile.command)


def test_every_width_has_its_line(nova_home: Path) -> None:
    ran = CliRunner().invoke(app, ["emulated:m4dense", "--set", "name=n"])
    assert ran.exit_code == 0
    assert "emulated:m4dense on n" in ran.stdout
    lines = [line.replace("│", " ").split() for line in ran.stdout.splitlines()]
    assert ["1", "1.592", "1.00", "0.000"] in lines
    assert ["8", "3.820", "2.40"] in lines
    assert any(line[:2] == ["fixed", "0.000"] for line in lines)


def test_as_json_it_is_the_profile_that_the_planner_takes(nova_home: Path) -> None:
    ran = CliRunner().invoke(app, ["emulated:seed", "--json", "--set", "name=n"])
    told = json.loads(ran.stdout)
    assert (told["model"], told["profile"]["name"]) == ("emulated:seed", "n")
    width, seconds = told["profile"]["layer_s"][0]
    assert (width, round(seconds * 66, 9)) == (1, 0.106)


def test_a_model_that_is_not_here_is_one_line(nova_home: Path) -> None:
    ran = CliRunner().invoke(app, ["absent", "--json"])
    assert ran.exit_code == 1
    assert "not found; tried" in json.loads(ran.stdout)["error"]
