"""What a preloaded OpenBLAS is worth to MLX on Linux: prefill and decode of the demo model, with and without."""

from __future__ import annotations

import statistics

from benches.demo import PROMPT, folder
from benches.reference import Reference
from benches.report import Progress, Report, machine
from nova.node.blas import Blas, choose

ROUNDS, TOKENS = 3, 8
LONG_PROMPT = PROMPT * 8


def run(progress: Progress) -> Report:
    report = Report("blas", machine())
    found = choose("auto")
    contenders = {"as the wheel is": Blas(None), "OpenBLAS": found}
    if found.library is None:
        contenders.pop("OpenBLAS")
        progress("there is no OpenBLAS on this machine: only MLX's own is measured")
    prefill: dict[str, list[float]] = {name: [] for name in contenders}
    decode: dict[str, list[float]] = {name: [] for name in contenders}
    running = {name: Reference(folder(), LONG_PROMPT, blas, 0, []) for name, blas in contenders.items()}
    try:
        for number in range(ROUNDS):
            for name, reference in running.items():
                progress(f"{name}, round {number + 1} of {ROUNDS}")
                first, between = reference.generate(TOKENS)
                prefill[name].append(first)
                decode[name].append(statistics.median(between))
    finally:
        for reference in running.values():
            reference.close()
    for name in contenders:
        report.measured(f"{name}: time to the first token", "s", prefill[name])
        report.measured(f"{name}: decode", "tok/s", [1.0 / each for each in decode[name]])
    if len(contenders) == 2:
        for what, times in (("prefill", prefill), ("decode", decode)):
            quotients = [a / b for a, b in zip(times["as the wheel is"], times["OpenBLAS"], strict=True)]
            report.measured(f"{what}, OpenBLAS / as the wheel is", "x", quotients)
            report.check(f"{what}, OpenBLAS / as the wheel is", statistics.median(quotients), "x", ">", 1.0)
    return report
