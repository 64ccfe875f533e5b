"""What `nova plan` shows people: nothing is lost on a narrow terminal, nothing is said that was not found."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from nova.cli.plan import parse_split
from nova.cli.show_plan import MANY, headline, planned, split
from nova.wire.plans import Alternative, PlanReport
from tests.unit.cli.planreport import ALONE, BOTH, ONE, TWO, cells, reported


def shown(report: PlanReport, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(planned(report, width))
    return out.getvalue()


def test_the_first_line_is_the_advice_if_there_is_some() -> None:
    assert shown(reported()).splitlines()[0] == "laptop alone is faster: 31.2 tok/s against 9.2"
    assert shown(reported(advice="")).splitlines()[0].startswith("qwen-32b: 66 layers on laptop, mini")


def test_every_stage_and_hop_shows_its_layers_memory_and_part_of_the_tokens_time() -> None:
    text = shown(reported())
    assert cells(text, "0 laptop")[:6] == ["0 laptop", "0-57", "24.0 of 96.0", "75%", "70.00", "64.2%"]
    assert cells(text, "0 laptop")[-1] == "35%"
    assert cells(text, "  hop")[4:6] == ["3.00", "2.8%"]
    assert cells(text, "1 mini")[1] == "58-65"
    assert cells(text, "1 mini")[-1] == "", "nobody knows its bandwidth"
    assert cells(text, "  back")[4:6] == ["0.50", "0.5%"]
    assert cells(text, "0 laptop")[6].count("█") > cells(text, "1 mini")[6].count("█") > 0


def test_a_stage_alone_has_no_hop() -> None:
    text = shown(reported(stages=ONE, prediction=ALONE))
    assert "hop" not in text
    assert "back" not in text


def test_the_prediction_says_what_each_rate_is_of() -> None:
    lines = [" ".join(line.split()) for line in shown(reported()).splitlines()]
    assert "one stream 9.17 tok/s 109.0 ms a token" in lines
    assert "speculation 14.20 tok/s chunks of 3 positions, 70% of the guesses right" in lines
    assert "8 streams 30.20 tok/s in 2 groups" in lines
    assert "first token 1.2 s after 512 tokens, in pieces of 256" in lines
    assert "bottleneck: laptop takes 70.0 of a token's 109.0 ms (64%)" in lines


def test_one_planned_stream_has_no_rate_of_all_streams() -> None:
    assert "streams" not in shown(reported(batch=1))


def test_an_alternative_shows_its_split_its_rate_and_what_it_would_lose() -> None:
    assert cells(shown(reported()), "laptop alone") == ["laptop alone", "laptop=66", "31.20", "60.00", "gains 240%"]
    worse = reported(alternatives=[Alternative("both", TWO, BOTH, 0.706)])
    assert cells(shown(worse), "both") == ["both", "laptop=58, mini=8", "9.17", "30.20", "71%"]


def test_alternatives_show_every_rate_that_is_planned_for() -> None:
    assert cells(shown(reported(batch=1)), "laptop alone")[2:-1] == ["31.20"]
    assert cells(shown(reported()), "laptop alone")[2:-1] == ["31.20", "60.00"]
    assert cells(shown(reported(objective="speculative")), "laptop alone")[2:-1] == ["31.20", "44.00", "60.00"]


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, "(spread)"),
        ({"strategy": "auto", "objective": "latency"}, "(auto, for latency; none is better)"),
        (
            {"strategy": "throughput", "objective": "throughput", "gap": 0.013},
            "(throughput; at most 1.3% from the best)",
        ),
    ],
)
def test_only_what_was_searched_for_is_said_to_be_the_best(changes: dict[str, Any], end: str) -> None:
    assert headline(reported(**changes)).endswith(end)


def test_reasons_and_notes_stand_as_they_are() -> None:
    text = shown(reported())
    assert "old has no stage: not needed: [bold]one layer there[/bold] costs 12.3 ms" in text
    assert "mini: by chip data" in text


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_terminal_loses_a_stage_a_time_or_a_rate(width: int) -> None:
    text = shown(reported(), width)
    assert all(len(line) <= width for line in text.splitlines())
    for word in ("0 laptop", "58-65", "24.0 of 96.0", "70.00", "64.2%", "9.17 tok/s", "31.20", "gains 240%"):
        assert word in text
    assert "…" not in text


def test_of_a_thousand_nodes_without_a_stage_some_are_named_and_the_rest_counted() -> None:
    left = {f"node-{number:03}": "not needed" for number in range(1000)}
    text = shown(reported(excluded=left))
    assert text.count("has no stage") == MANY
    assert f"and {1000 - MANY} more nodes have no stage: --json has all" in text


def test_a_split_is_shown_as_the_option_takes_it() -> None:
    assert parse_split(split(TWO)) == [("laptop", 58), ("mini", 8)]
    assert parse_split("") == []
