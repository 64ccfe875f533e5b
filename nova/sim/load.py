"""What comes in - requests at moments of their own, or in a closed loop - and what becomes of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from nova.errors import PlanError


@dataclass(frozen=True)
class Ask:
    """A request of `prompt` tokens for `tokens` tokens, that comes `at` so many seconds. Its client leaves it
    `patience` seconds after that, 0 for never."""

    at: float
    prompt: int
    tokens: int
    patience: float = 0.0


@dataclass(frozen=True)
class Load:
    """Requests, the earliest first. With `streams` it is a closed loop: so many are served at once, and the next one
    comes when one of them ends, however early its own moment is."""

    asks: Sequence[Ask]
    streams: int = 0

    def __post_init__(self) -> None:
        if any(ask.prompt < 1 or ask.tokens < 1 or ask.at < 0 for ask in self.asks):
            raise PlanError(
                "a simulated request needs a prompt and an answer of at least 1 token, and a moment from 0 on"
            )
        if any(one.at > other.at for one, other in zip(self.asks, self.asks[1:], strict=False)):
            raise PlanError("simulated requests are to be in the order in which they come")


@dataclass(frozen=True)
class Fault:
    """Node `node` dies `at` so many seconds."""

    node: str
    at: float


@dataclass
class Served:
    """What became of a request: when it came (in a closed loop: when it was let in), and each of its tokens."""

    ask: Ask
    came: float
    tokens: list[float] = field(default_factory=list)
    over: bool = False
    left: bool = False


def poisson(count: int, rate: float, prompt: int, tokens: int, seed: int = 0) -> list[Ask]:
    """`count` requests that come at random, `rate` in a second on average; the same ones for the same seed. Rate 0 has
    all of them come at once."""
    draw, at, asks = random.Random(seed), 0.0, []
    for _ in range(count):
        at += draw.expovariate(rate) if rate else 0.0
        asks.append(Ask(at, prompt, tokens))
    return asks
