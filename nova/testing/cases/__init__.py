"""The cases, in the order of the contract. Importing this registers them all."""

from __future__ import annotations

from nova.testing.case import CASES, TOPICS
from nova.testing.cases import (
    arrays,
    collectives,
    contract,
    failure,
    honesty,
    identity,
    lanes,
    length,
    lifecycle,
    probe,
    transfer,
)

__all__ = [
    "CASES",
    "arrays",
    "collectives",
    "contract",
    "failure",
    "honesty",
    "identity",
    "lanes",
    "length",
    "lifecycle",
    "probe",
    "transfer",
]

_ordered = sorted(CASES.items(), key=lambda item: (list(TOPICS).index(item[0][0]), int(item[1].clause[1:])))
CASES.clear()
CASES.update(_ordered)
