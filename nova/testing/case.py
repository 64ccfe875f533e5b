"""What a case is: a function that every rank runs, the clause that it holds, and what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nova.transport.api import Caps

if TYPE_CHECKING:
    from nova.testing.rank import Rank

TOPICS = {
    "K": "plugin class",
    "P": "probe",
    "L": "lifecycle",
    "T": "transfer",
    "N": "length",
    "F": "failure",
    "I": "identity",
    "H": "honesty",
    "A": "arrays",
    "C": "collectives",
}
"""By the first letter of a clause's number, in the order in which cases run."""

NOTHING = Caps(0)


@dataclass(frozen=True)
class Case:
    """One case. Every rank runs `run`, as a program of its own (SPMD); it tells ranks apart by their number.

    `needs`      capabilities without which the case means nothing: it is skipped
    `lacks`      capabilities with which it means nothing
    `joins`      it opens and joins by itself; else its group is there from the start, if it needs a kind of transfer
    `processes`  the ranks must be processes, because one of them is killed
    `dies`       ranks that kill their own process; they have no result
    `blocks`     ranks that may be stuck for ever where DEADLINE is not declared; killing their process must end them
    `slow`       needs much time or memory, and runs only when it is asked for
    `limit_s`    s; a rank that takes longer is stuck
    """

    name: str
    run: Callable[[Rank], None]
    promise: str
    ranks: int = 2
    needs: Caps = NOTHING
    lacks: Caps = NOTHING
    joins: bool = False
    processes: bool = False
    dies: frozenset[int] = frozenset()
    blocks: frozenset[int] = frozenset()
    slow: bool = False
    limit_s: float = 30.0

    @property
    def clause(self) -> str:
        return self.name.partition("_")[0]

    @property
    def topic(self) -> str:
        return TOPICS[self.name[0]]

    def missing(self, caps: Caps) -> str:
        """Why the case means nothing for a transport with these capabilities; empty when it does."""
        absent = [str(cap.name) for cap in self.needs if cap not in caps]
        present = [str(cap.name) for cap in self.lacks if cap in caps]
        return ", ".join([f"lacks {name}" for name in absent] + [f"has {name}" for name in present])

    def may_end_silently(self, rank: int, caps: Caps) -> bool:
        """Whether this rank may end without a result: it kills itself, or is stuck and gets killed."""
        return rank in self.dies or (rank in self.blocks and Caps.DEADLINE not in caps)


CASES: dict[str, Case] = {}
"""Every case by name; `nova.testing.cases` fills it."""


def case(
    ranks: int = 2,
    needs: Caps = NOTHING,
    lacks: Caps = NOTHING,
    joins: bool = False,
    processes: bool = False,
    dies: frozenset[int] = frozenset(),
    blocks: frozenset[int] = frozenset(),
    slow: bool = False,
    limit_s: float = 30.0,
) -> Callable[[Callable[[Rank], None]], Callable[[Rank], None]]:
    """Register a function as the case of its name; its docstring's first line is the promise that it holds."""

    def register(run: Callable[[Rank], None]) -> Callable[[Rank], None]:
        add(Case(run.__name__, run, promise(run), ranks, needs, lacks, joins, processes, dies, blocks, slow, limit_s))
        return run

    return register


def add(one: Case) -> None:
    if one.name in CASES:
        raise ValueError(f"two cases are called {one.name}")
    CASES[one.name] = one


def promise(run: Callable[..., None]) -> str:
    return (run.__doc__ or "").strip().partition("\n")[0]
