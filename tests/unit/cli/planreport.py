"""A plan as somebody gets it, and what of it stands on a terminal."""

from __future__ import annotations

from typing import Any

import msgspec

from nova.wire.plans import Alternative, PlannedStage, PlanReport, Prediction

GIB = 1 << 30

ONE = [PlannedStage("laptop", 0, 66, 14 * GIB, 16 * GIB, 96 * GIB, 0.032, 0.033, 0.0, 0.9)]
TWO = [
    PlannedStage("laptop", 0, 58, 12 * GIB, 24 * GIB, 96 * GIB, 0.070, 0.071, 0.003, 0.35),
    PlannedStage("mini", 58, 8, 2 * GIB, 3 * GIB, 16 * GIB, 0.0355, 0.036, 0.0005),
]
ALONE = Prediction(0.032, 31.2, 44.0, 2, 60.0, 1, 0.9, 512)
BOTH = Prediction(0.109, 9.17, 14.2, 3, 30.2, 2, 1.23, 256)


def reported(**changes: Any) -> PlanReport:
    made = PlanReport(
        "qwen-32b", "spread", "spread", TWO, BOTH, "laptop takes 70.0 of a token's 109.0 ms (64%)",
        "laptop alone is faster: 31.2 tok/s against 9.2", [Alternative("laptop alone", ONE, ALONE, -2.4)],
        {"old": "not needed: [bold]one layer there[/bold] costs 12.3 ms"}, 0.0, ["mini: by chip data"],
        4096, 8, 512, 0.7,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def cells(text: str, first: str) -> list[str]:
    """The row of a table that begins so."""
    row = next(line for line in text.splitlines() if line.startswith(f"│ {first}"))
    return [cell.strip() for cell in row.strip("│").split("│")]
