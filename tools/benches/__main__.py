"""`tools/bench list` and `tools/bench NAME [--json]`. Exit 0 when it could measure: the checks speak for themselves."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

import msgspec
from rich.console import Console

from benches.report import Report, show
from nova.log import setup

BENCHES = {
    "blas": "what a preloaded BLAS is worth to MLX on Linux",
    "churn": "two hundred HTTP clients of which half hang up: errors, memory, slots, time between tokens",
    "forming": "two hundred formings in a row, most of them with a fault, against their limits",
    "microbatch": "streams that decode together over emulated stages, against the best division into micro-batches",
    "planner": "placements against brute force and other planners' rules, and how long a search takes",
    "prediction": "what the planner predicts beside what is measured; auto beside an even split on unequal machines",
    "prefill": "the pieces of a prompt over the stages, against S C / (C + S - 1)",
    "sequential": "two nodes with one core each beside mlx_lm in one process, and emulated stages against their bound",
    "serve": "1, 2 and 8 streams over two nodes with one core each, and 8 beside mlx_lm.server",
    "sim": "the simulator beside emulated stages, and how long a thousand nodes and requests take it",
    "start": "how long a second start takes before the model loads",
    "throttle": "the time between tokens of four streams while a long prompt arrives",
    "transport": "a tensor there and back over each transport, beside a bare socket and a bare ZeroMQ pair",
}
"""Name of the module, and what it measures."""

QUICK = {"churn", "microbatch", "planner", "prediction", "prefill", "serve", "sim", "throttle"}
"""Those that take minutes and have a short form, to see that they run; its figures are rough."""

QUIET_S = 2.0
"""Progress is said only by a bench that takes longer."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("name", choices=["list", *BENCHES], help="a bench, or list")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    parser.add_argument("--quick", action="store_true", help=f"a rough look; for {', '.join(sorted(QUICK))}")
    parser.add_argument("--blas", help="Linux, for serve: engine.cpu_blas, of mlx_lm.server too; default openblas")
    arguments = parser.parse_args()
    if arguments.quick and arguments.name not in QUICK:
        parser.error(f"{arguments.name} has no --quick")
    if arguments.blas and arguments.name != "serve":
        parser.error(f"{arguments.name} has no --blas")
    if arguments.name == "list":
        for name, what in BENCHES.items():
            print(f"{name:12} {what}")
        return 0
    setup("warning")  # to standard error: standard output is the report's alone
    begun = time.monotonic()

    def progress(what: str) -> None:
        if time.monotonic() - begun > QUIET_S:
            print(f"{arguments.name}: {what}", file=sys.stderr, flush=True)

    how = {name: value for name in ("quick", "blas") if (value := getattr(arguments, name))}
    report: Report = importlib.import_module(f"benches.{arguments.name}").run(progress, **how)
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        show(report, Console(width=None if sys.stdout.isatty() else 140))
    return 0


if __name__ == "__main__":
    sys.exit(main())
