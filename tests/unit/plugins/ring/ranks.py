"""Ranks of a ring as real processes, and the rendezvous between them."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from nova.clock import Deadline

LIMIT_S = 30.0
TICKET = "t" * 32


class Rank:
    """One process; ended at the end of the `with` block, whatever it does then."""

    def __init__(self, rank: int, size: int, **seat: Any) -> None:
        """Starts it; `card` waits for it to have opened."""
        self.rank = rank
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.unit.plugins.ring.rank"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.log = ""
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._read, self._read_log)]
        for thread in self._threads:
            thread.start()
        values = {"ticket": TICKET, "hosts": ["127.0.0.1"], "options": {}}
        self.tell(rank=rank, size=size, **(values | seat))

    def __enter__(self) -> Rank:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        for thread in self._threads:
            thread.join(LIMIT_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def tell(self, **values: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values) + "\n")
        self.process.stdin.flush()

    def says(self, within_s: float = LIMIT_S) -> dict[str, Any]:
        """Its next line. Raises AssertionError when none comes in time."""
        try:
            return self._said.get(timeout=within_s)
        except queue.Empty:
            raise AssertionError(f"rank {self.rank} is silent; its log: {self.log}") from None

    def does(self, what: str, **values: Any) -> dict[str, Any]:
        self.tell(do=what, **values)
        return self.says()

    def card(self) -> str:
        card: str = self.says()["card"]
        return card

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self._said.put({"ended": True})

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line


Answers = dict[int, dict[str, Any]]


@contextmanager
def ranks(size: int, **seat: Any) -> Iterator[list[Rank]]:
    """The processes of all ranks."""
    with ExitStack() as undo:
        yield [undo.enter_context(Rank(rank, size, **seat)) for rank in range(size)]


def form(
    members: Sequence[Rank],
    cards: Sequence[str] | None = None,
    told: Mapping[int, dict[str, Any]] | None = None,
    at_go: Callable[[], None] = lambda: None,
) -> Answers:
    """Let the ranks join, be their rendezvous, and return what each says in the end.

    `told` is what single ranks are told besides, `at_go` is called before the last exchange is answered.
    """
    cards = cards or [member.card() for member in members]
    for member in members:
        member.tell(cards=cards, **(told or {}).get(member.rank, {}))
    ended: Answers = {}
    deadline = Deadline.after(LIMIT_S)
    for exchange in ("reached", "go", "end"):
        said = {member.rank: member.says(deadline.remaining()) for member in members if member.rank not in ended}
        ended |= {rank: answer for rank, answer in said.items() if "gather" not in answer}
        if exchange == "go":
            at_go()
        answer = {"failed": "a rank failed"} if ended else {"gathered": [one.get("gather") for one in said.values()]}
        for member in members:
            if member.rank not in ended:
                member.tell(**answer)
        if len(ended) == len(members):
            break
    return ended


@contextmanager
def ring(size: int, **seat: Any) -> Iterator[list[Rank]]:
    """A formed ring."""
    with ranks(size, **seat) as members:
        answers = form(members)
        assert all("joined" in answer for answer in answers.values()), (answers, [member.log for member in members])
        yield members
