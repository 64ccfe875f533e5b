"""The longest common beginning wins, the budget holds, the least recently used text goes first."""

from __future__ import annotations

import random
import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nova.engine.prefixes import BLOCK, WORTH, Match, Prefixes

NONE = Match()
TEXT = list(range(100))


def kept(budget: int, trimmable: bool = True, **texts: list[int]) -> Prefixes:
    """Texts named s1, s2, ... of streams 1, 2, ..."""
    prefixes = Prefixes()
    prefixes.limit(budget, trimmable)
    for name, tokens in texts.items():
        prefixes.keep(int(name[1:]), tokens)
    return prefixes


def find(prefixes: Prefixes, prompt: list[int]) -> tuple[Match, Match]:
    return prefixes.find(np.array(prompt, np.int64))


@given(
    st.lists(st.tuples(st.integers(0, 60), st.lists(st.integers(0, 1), max_size=30)), max_size=12),
    st.tuples(st.integers(0, 60), st.lists(st.integers(0, 1), min_size=1, max_size=30)),
    st.booleans(),
)
def test_the_longest_common_beginning_is_found(
    texts: list[tuple[int, list[int]]], prompt: tuple[int, list[int]], trimmable: bool
) -> None:
    prefixes = Prefixes()
    prefixes.limit(10_000, trimmable)
    there: dict[int, list[int]] = {}
    for stream, (shared, own) in enumerate(texts, 1):
        there[stream] = TEXT[:shared] + own
        for gone in prefixes.keep(stream, there[stream]):
            del there[gone]
    wanted = TEXT[: prompt[0]] + prompt[1]
    now, soon = find(prefixes, wanted)
    lengths = [common for each in there.values() if (common := _common(each, wanted, trimmable)) >= WORTH]
    assert now.length == max(lengths, default=0)
    assert soon == NONE
    if now.length:
        assert there[now.stream][: now.length] == wanted[: now.length]


def _common(text: list[int], prompt: list[int], trimmable: bool) -> int:
    most = len(prompt) - 1
    common = next(
        (i for i, (a, b) in enumerate(zip(text, prompt, strict=False)) if a != b), min(len(text), len(prompt))
    )
    return min(common, most) if trimmable else len(text) if common == len(text) <= most else 0


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    assert find(kept(1000, s1=TEXT), TEXT)[0] == Match(1, 99)
    assert find(kept(1000, trimmable=False, s1=TEXT), TEXT)[0] == NONE
    assert find(kept(1000, trimmable=False, s1=TEXT), [*TEXT, 1])[0] == Match(1, 100)


def test_the_least_recently_used_goes_first_and_a_hit_is_a_use() -> None:
    one, two, three = [1] * 300, [2] * 300, [3] * 300
    prefixes = kept(700, s1=one, s2=two)
    assert find(prefixes, [*one, 5])[0] == Match(1, 300)
    assert prefixes.keep(3, three) == [2]
    assert find(prefixes, [*two, 5])[0] == NONE
    assert prefixes.limit(299, True) == [1, 3]


def test_a_short_text_counts_for_the_block_that_its_caches_are_made_for() -> None:
    prefixes = kept(2 * BLOCK, s1=[1] * 30, s2=[2] * 30)
    assert prefixes.keep(3, [3] * 30) == [1]
    assert kept(BLOCK - 1).keep(1, [1] * 30) == [1]


def test_what_does_not_fit_or_is_not_worth_it_is_not_kept() -> None:
    prefixes = kept(500, s1=[1] * 30)
    assert prefixes.keep(2, [2] * 501) == [2]
    assert prefixes.keep(3, [1] * (WORTH - 1)) == [3]
    assert find(prefixes, [1] * 31)[0] == Match(1, 30)


def test_a_text_that_goes_on_takes_the_place_of_its_beginning_where_caches_can_be_cut() -> None:
    assert kept(1000, s1=TEXT[:40]).keep(2, TEXT) == [1]
    assert kept(1000, s1=[*TEXT[:40], 0]).keep(2, TEXT) == []
    assert kept(1000, trimmable=False, s1=TEXT[:40]).keep(2, TEXT) == []


def test_a_running_request_serves_as_far_as_it_was_sent_and_promises_the_rest() -> None:
    prefixes = kept(0)
    prefixes.start(1, TEXT)
    assert find(prefixes, TEXT) == (NONE, NONE), "it has not begun, and may itself have to wait"
    prefixes.sent(1, 20)
    assert find(prefixes, TEXT) == (Match(1, 20), Match(1, 99))
    assert find(prefixes, [*TEXT[:30], 0, 0]) == (Match(1, 20), NONE), "ten more are not worth a wait"
    assert find(prefixes, [*TEXT[:60], 0, 0]) == (Match(1, 20), Match(1, 60))
    assert prefixes.waits(Match(1, 60))
    prefixes.sent(1, 60)
    assert not prefixes.waits(Match(1, 60))
    prefixes.forget(1)
    assert not prefixes.waits(Match(1, 90))
    assert find(prefixes, TEXT) == (NONE, NONE)


def test_no_running_request_serves_where_caches_cannot_be_cut() -> None:
    prefixes = kept(1000, trimmable=False)
    prefixes.start(1, TEXT)
    prefixes.sent(1, 100)
    assert find(prefixes, [*TEXT, 1, 2]) == (NONE, NONE)


def test_a_look_among_hundreds_of_texts_is_quick() -> None:
    drawn = random.Random(1)
    system = [drawn.randrange(50_000) for _ in range(2000)]
    prefixes = kept(10**9)
    for stream in range(1, 301):
        prefixes.keep(stream, [*system, *(drawn.randrange(50_000) for _ in range(1000))])
    prompt = np.array([*system, *range(100_000)], np.int64)
    seconds = []
    for _ in range(9):
        start = time.perf_counter()
        assert prefixes.find(prompt)[0].length == 2000
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005, "typically 0.1 ms"
