"""Which texts have caches on the stages, so that a prompt with the same beginning need not be computed again. Pure.

Texts of requests that have ended are kept under their stream numbers, within a budget of positions, and the least
recently used goes first. Those of running requests serve as far as their positions have been sent: chunks keep their
order all round the ring, so whatever is sent behind them finds them computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.int64]

WORTH = 16
"""Tokens; a shorter common beginning is not worth a copy of the caches."""

BLOCK = 256
"""Positions; a shorter text counts as many. Its caches are made for them, and the coordinator, which turns bytes into
the budget, spreads over one block what every text costs."""


class Match(NamedTuple):
    """So many first tokens are those of `stream`'s text; (0, 0) for none."""

    stream: int = 0
    length: int = 0


@dataclass
class Text:
    """`available` positions have been sent; `promised` will be without any token having to come first."""

    tokens: Tokens
    available: int
    promised: int = 0
    kept: bool = False


class Prefixes:
    """All texts, by stream. Without `trimmable` caches cannot be cut back, and only whole kept texts serve."""

    def __init__(self) -> None:
        self._texts: dict[int, Text] = {}
        self._buckets: dict[bytes, dict[int, Text]] = {}
        """By their first WORTH tokens; shorter texts are in none."""
        self._kept: dict[int, int] = {}
        """Stream -> positions that it counts for, least recently used first."""
        self._positions = 0
        self._budget = 0
        self.trimmable = False

    def limit(self, budget: int, trimmable: bool) -> list[int]:
        """So many positions may be kept. Returns the streams that are no longer."""
        self._budget, self.trimmable = budget, trimmable
        return self._evict()

    def start(self, stream: int, prompt: Sequence[int]) -> Tokens:
        """A request begins; of its prompt nothing has been sent. Returns the prompt as `find` wants it."""
        tokens = np.array(prompt, np.int64)
        self._add(stream, Text(tokens, 0))
        return tokens

    def sent(self, stream: int, positions: int) -> None:
        """So many positions of the running request have been sent or taken over."""
        text = self._texts[stream]
        text.available = min(positions, len(text.tokens))
        text.promised = len(text.tokens) - 1

    def waits(self, match: Match) -> bool:
        """Whether a running request is still about to send what it had promised."""
        text = self._texts.get(match.stream)
        return text is not None and not text.kept and text.available < match.length

    def find(self, prompt: Tokens) -> tuple[Match, Match]:
        """What there is of the prompt, at most all but its last token, and what a request that is sending its own
        prompt will have soon, if that is WORTH more; else (0, 0)."""
        now = soon = Match()
        most = len(prompt) - 1
        for stream, text in reversed(self._buckets.get(prompt[:WORTH].tobytes(), {}).items()):
            reach = min(max(text.available, text.promised), most)
            if reach <= now.length or text.tokens[now.length] != prompt[now.length]:
                continue
            common = _common(text.tokens[:reach], prompt[:reach])
            if not self.trimmable:
                common = common if text.kept and common == len(text.tokens) else 0
            now = max(now, Match(stream, min(common, text.available)), key=_length)
            soon = max(soon, Match(stream, common), key=_length)
        if now.length >= WORTH and now.stream in self._kept:
            self._kept[now.stream] = self._kept.pop(now.stream)
        worth = soon.length - now.length >= WORTH
        return now if now.length >= WORTH else Match(), soon if worth else Match()

    def keep(self, stream: int, computed: Sequence[int]) -> list[int]:
        """The request has ended, its caches hold these tokens. Returns the streams that are not or no longer kept."""
        self.forget(stream)
        tokens = np.array(computed, np.int64)
        size = max(len(tokens), BLOCK)
        if len(tokens) < WORTH or size > self._budget:
            return [stream]
        gone = self._superseded(tokens) if self.trimmable else []
        for each in gone:
            self.forget(each)
        self._add(stream, Text(tokens, len(tokens), kept=True))
        self._kept[stream] = size
        self._positions += size
        return gone + self._evict()

    def forget(self, stream: int) -> None:
        """Its caches go away. Idempotent."""
        text = self._texts.pop(stream, None)
        if text is None:
            return
        self._positions -= self._kept.pop(stream, 0)
        key = text.tokens[:WORTH].tobytes()
        if len(text.tokens) >= WORTH:
            del self._buckets[key][stream]
            if not self._buckets[key]:
                del self._buckets[key]

    def _add(self, stream: int, text: Text) -> None:
        self._texts[stream] = text
        if len(text.tokens) >= WORTH:
            self._buckets.setdefault(text.tokens[:WORTH].tobytes(), {})[stream] = text

    def _superseded(self, tokens: Tokens) -> list[int]:
        """Kept texts that these begin with."""
        return [
            stream
            for stream, text in self._buckets.get(tokens[:WORTH].tobytes(), {}).items()
            if text.kept and len(text.tokens) <= len(tokens) and _common(text.tokens, tokens) == len(text.tokens)
        ]

    def _evict(self) -> list[int]:
        gone = []
        while self._positions > self._budget:
            gone.append(next(iter(self._kept)))
            self.forget(gone[-1])
        return gone


def _length(match: Match) -> int:
    return match.length


def _common(one: Tokens, other: Tokens) -> int:
    """Length of the common beginning."""
    length = min(len(one), len(other))
    differs = one[:length] != other[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length
