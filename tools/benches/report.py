"""What a bench returns: facts of the machine, every measured value with its samples, and checks against bounds."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from rich.console import Console
from rich.table import Table

Progress = Callable[[str], None]
"""Says to a waiting person what is being measured."""


class Machine(msgspec.Struct, frozen=True):
    """Where the figures come from; they mean nothing elsewhere."""

    system: str
    arch: str
    cores: int
    load: float
    python: str


class Row(msgspec.Struct, frozen=True):
    """One measured value. `samples` counts what median and p99 were taken from."""

    name: str
    unit: str
    median: float
    p99: float
    samples: int


class Check(msgspec.Struct, frozen=True):
    """A value held against a bound: `holds` is `value op bound`."""

    name: str
    value: float
    unit: str
    bound: float
    op: Literal["<=", "<", ">=", ">"]
    holds: bool


class Report(msgspec.Struct):
    """One run of one bench."""

    bench: str
    machine: Machine
    rows: list[Row] = msgspec.field(default_factory=list)
    checks: list[Check] = msgspec.field(default_factory=list)

    def measured(self, name: str, unit: str, samples: Sequence[float]) -> None:
        """Add a row."""
        self.rows.append(Row(name, unit, statistics.median(samples), p99(samples), len(samples)))

    def check(self, name: str, value: float, unit: str, op: Literal["<=", "<", ">=", ">"], bound: float) -> None:
        """Add a check."""
        holds = {"<=": value <= bound, "<": value < bound, ">=": value >= bound, ">": value > bound}[op]
        self.checks.append(Check(name, value, unit, bound, op, holds))


def machine() -> Machine:
    return Machine(
        platform.platform(), platform.machine(), os.cpu_count() or 0, os.getloadavg()[0], platform.python_version()
    )


def p99(samples: Sequence[float]) -> float:
    """The value that 99 of 100 samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def interleaved(
    contenders: Mapping[str, Callable[[], Sequence[float]]], rounds: int, progress: Progress
) -> dict[str, list[list[float]]]:
    """Every contender's samples by round, taken A B A B, so that a busy moment of the machine hits them all.

    Each second round goes backwards: whoever comes after a cold cache or a busy neighbour is not always the same.
    """
    taken: dict[str, list[list[float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name in list(contenders) if number % 2 == 0 else list(contenders)[::-1]:
            taken[name].append(list(contenders[name]()))
    return taken


def ratio(ours: Sequence[Sequence[float]], bare: Sequence[Sequence[float]]) -> float:
    """The median over the rounds of the quotient of each round's medians."""
    quotients = [statistics.median(a) / statistics.median(b) for a, b in zip(ours, bare, strict=True)]
    return statistics.median(quotients)


def show(report: Report, console: Console) -> None:
    """For people."""
    here = report.machine
    title = f"{report.bench} on {here.system}, {here.cores} cores, load {here.load:.1f}, Python {here.python}"
    rows = Table("value", "median", "p99", "unit", "samples", title=title, title_justify="left")
    for row in report.rows:
        rows.add_row(row.name, f"{row.median:.4g}", f"{row.p99:.4g}", row.unit, str(row.samples))
    checks = Table("check", "value", "bound", "unit", "holds")
    for check in report.checks:
        verdict = "[green]yes" if check.holds else "[red]no"
        checks.add_row(check.name, f"{check.value:.4g}", f"{check.op} {check.bound:g}", check.unit, verdict)
    console.print(rows, checks)
