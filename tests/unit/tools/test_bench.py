"""The bench contract, on a bench that takes no time: standard output is one JSON object and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from benches.report import Check, Report, interleaved, machine, p99, ratio

TOOLS = Path(__file__).parents[3] / "tools"

NOISY = """
import sys, types
import structlog
from benches import __main__ as bench
from benches.report import Report, machine
def run(progress):
    structlog.get_logger("x").info("a line of somebody's log")
    report = Report("noisy", machine())
    report.measured("wait", "ms", [3.0, 1.0, 2.0])
    report.check("wait", 2.0, "ms", "<=", 1.0)
    return report
sys.modules["benches.noisy"] = types.SimpleNamespace(run=run)
bench.BENCHES["noisy"] = "nothing"
sys.exit(bench.main())
"""


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", NOISY, *arguments]
    return subprocess.run(command, cwd=TOOLS, capture_output=True, text=True, timeout=60, check=False)


def test_json_is_the_whole_output_whatever_is_logged_and_a_check_that_fails_is_no_failure() -> None:
    done = bench("noisy", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert set(report) == {"bench", "machine", "rows", "checks"}
    assert report["rows"] == [{"name": "wait", "unit": "ms", "median": 2.0, "p99": 3.0, "samples": 3}]
    assert report["checks"] == [
        {"name": "wait", "value": 2.0, "unit": "ms", "bound": 1.0, "op": "<=", "holds": False}
    ]  # fmt: skip


def test_list_names_every_bench() -> None:
    done = bench("list")
    assert {line.split()[0] for line in done.stdout.splitlines()} >= {"blas", "sequential", "start", "transport"}


@pytest.mark.parametrize(
    ("op", "value", "holds"), [("<=", 1.0, True), ("<", 1.0, False), (">=", 1.0, True), (">", 1.0, False)]
)
def test_a_check_holds_exactly_at_its_bound_or_not(op: str, value: float, holds: bool) -> None:
    report = Report("x", machine())
    report.check("c", value, "x", op, 1.0)  # type: ignore[arg-type]
    assert report.checks == [Check("c", value, "x", 1.0, op, holds)]  # type: ignore[arg-type]


def test_contenders_take_turns_and_each_second_round_goes_backwards() -> None:
    order: list[str] = []

    def turn(name: str) -> list[float]:
        order.append(name)
        return [1.0]

    taken = interleaved({name: partial(turn, name) for name in "ab"}, 3, lambda what: None)
    assert "".join(order) == "abbaab"
    assert {name: len(rounds) for name, rounds in taken.items()} == {"a": 3, "b": 3}


def test_a_ratio_is_that_of_rounds_and_not_of_everything() -> None:
    assert ratio([[2.0], [20.0], [200.0]], [[1.0], [10.0], [100.0]]) == 2.0


def test_p99_of_few_samples_is_the_largest() -> None:
    assert p99([3.0, 1.0, 2.0]) == 3.0


def test_a_bench_without_a_short_form_says_so() -> None:
    done = bench("noisy", "--quick")
    assert done.returncode == 2
    assert "noisy has no --quick" in done.stderr
