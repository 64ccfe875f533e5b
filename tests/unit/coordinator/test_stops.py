"""Stop strings are found whatever the pieces, and no more is held back than must be."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nova.coordinator.stops import Stops

TEXTS = st.text("ab.", max_size=30)
STOPS = st.lists(st.text("ab.", min_size=1, max_size=5), max_size=4)


def naive(text: str, stops: list[str]) -> tuple[str, int] | None:
    """The stop string that is complete first, the longest of several, and where it ends."""
    for end in range(1, len(text) + 1):
        if complete := [each for each in stops if text[:end].endswith(each)]:
            return max(complete, key=len), end
    return None


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@given(TEXTS, STOPS, st.lists(st.integers(0, 99), max_size=6))
@example("aabaaab", ["aaab"], [])
@example("xabcd", ["bcd", "c"], [])
def test_the_first_to_be_complete_is_found_however_the_text_is_cut(
    text: str, stops: list[str], places: list[int]
) -> None:
    finder, seen, found = Stops(stops), 0, None
    for piece in cut(text, places):
        seen += len(piece)
        if (hit := finder.add(piece)) is not None:
            found = hit[0], seen - hit[1]
            break
    assert found == naive(text, stops)


@given(TEXTS, STOPS)
def test_what_is_held_is_the_longest_start_of_a_stop_string_at_the_end(text: str, stops: list[str]) -> None:
    finder = Stops(stops)
    if finder.add(text) is not None:
        return
    starts = {each[:length] for each in stops for length in range(1, len(each))}
    assert finder.held == max((len(start) for start in starts if text.endswith(start)), default=0)


@pytest.mark.parametrize("stops", [["ab", "b", "xab"], ["xab", "b", "ab"]])
def test_of_several_that_end_together_the_longest_counts(stops: list[str]) -> None:
    assert Stops(stops).add("zxab!") == ("xab", 1)


def test_without_stop_strings_nothing_is_held() -> None:
    finder = Stops([])
    assert finder.add("anything") is None
    assert finder.held == 0
