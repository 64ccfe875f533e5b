"""A request's tokens on their way to its client: text, stop strings, and what must wait. Pure.

Tokens, log-probabilities and text stay in step: a piece has the text of its tokens, and each token is in one piece.
So where text may be the start of a stop string, the tokens that it comes from are held back with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nova.coordinator.model import TextStream
from nova.coordinator.stops import Stops
from nova.wire.work import TokenLogprob


@dataclass
class _Held:
    """`token` is None for what is left of a text whose tokens have gone already."""

    token: int | None
    text: str
    logprob: TokenLogprob | None = None


class Pieces:
    """`silent` tokens, which end a text, are not part of it."""

    def __init__(self, text: TextStream, stops: Sequence[str], silent: frozenset[int]) -> None:
        self._text = text
        self._stops = Stops(stops)
        self._silent = silent
        self._held: deque[_Held] = deque()
        self.stopped_by = ""
        """The stop string that ended the text: nothing is added after it."""

    def add(self, token: int, logprob: TokenLogprob | None = None) -> None:
        text = "" if token in self._silent else self._text.add(token)
        self._held.append(_Held(token, text, logprob))
        self._look(text)

    def end(self) -> None:
        """There are no more tokens: what was not a whole character comes as it is."""
        if not self.stopped_by and (text := self._text.flush()):
            self._held.append(_Held(None, text))
            self._look(text)
        self._stops = Stops(())

    def take(self) -> tuple[list[int], str, list[TokenLogprob]]:
        """What is certain by now: tokens, their text, and their log-probabilities where they have some."""
        certain = sum(len(each.text) for each in self._held) - self._stops.held
        taken: list[_Held] = []
        while self._held and len(self._held[0].text) <= certain:
            taken.append(self._held.popleft())
            certain -= len(taken[-1].text)
        tokens = [each.token for each in taken if each.token is not None]
        logprobs = [each.logprob for each in taken if each.logprob is not None]
        return tokens, "".join(each.text for each in taken), logprobs

    def _look(self, text: str) -> None:
        """Whether a stop string ends with this text; if so, cut it off, and what comes after it."""
        if (found := self._stops.add(text)) is None:
            return
        self.stopped_by, after = found
        surplus = len(self.stopped_by) + after
        for held in reversed(self._held):
            cut = min(surplus, len(held.text))
            held.text = held.text[: len(held.text) - cut]
            surplus -= cut
        self._stops = Stops(())
