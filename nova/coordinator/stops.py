"""Stop strings in a text that comes in pieces. Pure.

Characters are looked at one by one, each stop string with its own automaton (Knuth, Morris and Pratt), so what is
found does not depend on how the text was cut, and a character costs the same however much of a string has matched.
"""

from __future__ import annotations

from collections.abc import Sequence


class _Automaton:
    """`matched` is how many characters of `text` the characters so far end with."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.matched = 0
        self._back = [0] * len(text)
        """For each prefix of `text`: how long the longest shorter one is that it ends with."""
        known = 0
        for at in range(1, len(text)):
            while known and text[at] != text[known]:
                known = self._back[known - 1]
            known += text[at] == text[known]
            self._back[at] = known

    def add(self, character: str) -> bool:
        """True when `text` is complete; nothing may be added after that."""
        while self.matched and character != self.text[self.matched]:
            self.matched = self._back[self.matched - 1]
        self.matched += character == self.text[self.matched]
        return self.matched == len(self.text)


class Stops:
    """The first stop string to be complete ends the text; of several that end together, the longest."""

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` are not empty."""
        self._automata = [_Automaton(each) for each in sorted(set(stops), key=lambda each: (-len(each), each))]

    def add(self, text: str) -> tuple[str, int] | None:
        """The stop string that became complete, and how many characters of `text` come after it."""
        for at, character in enumerate(text):
            complete = [each.text for each in self._automata if each.add(character)]
            if complete:
                return complete[0], len(text) - at - 1
        return None

    @property
    def held(self) -> int:
        """How many of the last characters may be the start of a stop string."""
        return max((each.matched for each in self._automata), default=0)
