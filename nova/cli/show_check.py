"""How `nova transports check` looks: which case runs, and a line for each that has ended."""

from __future__ import annotations

from types import TracebackType

from rich.markup import escape
from rich.text import Text as Line

from nova.cli.show import err, out
from nova.testing.case import Case
from nova.testing.report import CaseResult, Report

STYLES = {"passed": "green", "failed": "bold red", "skipped": "dim"}


class Progress:
    """A context manager around the cases. `quiet` prints no lines on standard output."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._spinner = err.status("asking what it can do")

    def __enter__(self) -> Progress:
        self._spinner.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._spinner.stop()

    def begins(self, case: Case) -> Case:
        self._spinner.update(escape(f"{case.name}: {case.promise}"))
        return case

    def told(self, result: CaseResult) -> CaseResult:
        if not self._quiet:
            reason = f"  {result.reason}" if result.reason else ""
            head = (f"{result.outcome:8}", STYLES[result.outcome])
            out.print(Line.assemble(head, f"{result.seconds:6.2f} s  {result.case}", reason), soft_wrap=True)
        return result


def summary(report: Report) -> Line:
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped"))
    return Line(f"{report.transport} {report.version}: {counts}", style="bold")
