"""What a preloaded BLAS is worth to MLX on Linux: prefill and decode of the demo model, with each and with none."""

from __future__ import annotations

import statistics

from benches.demo import PROMPT, folder
from benches.reference import Reference
from benches.report import Progress, Report, machine
from nova.errors import ConfigError
from nova.node.blas import KNOWN, Blas, choose

ROUNDS, TOKENS = 3, 8
LONG_PROMPT = PROMPT * 8
BARE = "as the wheel is"


def run(progress: Progress) -> Report:
    report = Report("blas", machine())
    contenders = {BARE: Blas(None), **_installed()}
    if len(contenders) == 1:
        progress(f"there is none of {', '.join(KNOWN)} on this machine: only MLX's own is measured")
    times: dict[str, dict[str, list[float]]] = {
        what: {name: [] for name in contenders} for what in ("prefill", "decode")
    }
    running = {name: Reference(folder(), LONG_PROMPT, blas, 0, []) for name, blas in contenders.items()}
    try:
        for number in range(ROUNDS):
            for name, reference in running.items():
                progress(f"{name}, round {number + 1} of {ROUNDS}")
                first, between = reference.generate(TOKENS)
                times["prefill"][name].append(first)
                times["decode"][name].append(statistics.median(between))
    finally:
        for reference in running.values():
            reference.close()
    for name in contenders:
        report.measured(f"{name}: time to the first token", "s", times["prefill"][name])
        report.measured(f"{name}: decode", "tok/s", [1.0 / each for each in times["decode"][name]])
    for what, found in times.items():
        for name in list(contenders)[1:]:
            quotients = [bare / each for bare, each in zip(found[BARE], found[name], strict=True)]
            report.measured(f"{what}, {name} / {BARE}", "x", quotients)
            report.check(f"{what}, {name} / {BARE}", statistics.median(quotients), "x", ">", 1.0)
    return report


def _installed() -> dict[str, Blas]:
    found: dict[str, Blas] = {}
    for name in KNOWN:
        try:
            found[name] = choose(name)
        except ConfigError:
            continue
    return {name: blas for name, blas in found.items() if blas.library}
