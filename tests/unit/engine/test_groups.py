"""Who decodes with whom: even groups, little padding, nobody moved without need, nobody overtaken for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from nova.engine.groups import Groups
from nova.engine.padding import SLACK, STEP, WASTE, Size
from nova.plan.costs import Costs
from nova.wire.rows import MAX_ROWS


def groups(stages: int, lengths: Mapping[int, int] | None = None) -> Groups:
    """With nothing measured, one group for each stage."""
    return Groups(Costs(stages), stages + 1, lengths.__getitem__ if lengths else lambda _: 0)


def of(lengths: dict[int, int], stages: int) -> Groups:
    """All have joined, in this order."""
    made = groups(stages, lengths)
    for stream in lengths:
        made.join(stream)
    return made


def over_bound(lengths: list[int]) -> bool:
    """Whether padding takes too much, said another way than the code says it."""
    room = [length + STEP for length in lengths]
    return len(room) * max(room) > WASTE * sum(room) + SLACK


def started(made: Groups) -> list[tuple[int, list[int]]]:
    """All that can start now."""
    chunks = []
    while (chunk := made.next()) is not None:
        chunks.append(chunk)
    return chunks


def test_whoever_comes_first_goes_first_and_alone() -> None:
    made = groups(2)
    made.join(1)
    assert started(made) == [(1, [1])]
    made.join(2)
    assert started(made) == [(2, [2])]
    made.join(3)
    assert started(made) == [], "both groups are under way"
    made.landed(1)
    assert started(made) == [(1, [1, 3])]


def test_those_that_come_together_are_divided_evenly() -> None:
    made = groups(3)
    for stream in range(1, 6):
        made.join(stream)
    assert started(made) == [(1, [1, 2]), (2, [3, 4]), (3, [5])]


def test_a_group_gives_up_what_is_over_its_share_and_no_more() -> None:
    made = groups(2)
    for stream in range(1, 9):
        made.join(stream)
    assert started(made) == [(1, [1, 2, 3, 4]), (2, [5, 6, 7, 8])]
    for stream in (5, 7, 8):
        made.leave(stream)
    made.landed(1)
    made.landed(2)
    assert started(made) == [(1, [1, 2, 3]), (2, [6, 4])]
    assert (made.streams, len(made), made.largest) == (5, 2, 3)


def test_a_group_too_many_is_dissolved_when_it_lands() -> None:
    made = groups(3)
    for stream in (1, 2, 3):
        made.join(stream)
    assert len(started(made)) == 3
    made.leave(3)
    made.landed(1)
    assert started(made) == []
    made.landed(2)
    assert started(made) == [(2, [2])]
    made.landed(3)
    assert started(made) == [(3, [1])]


def test_a_new_group_waits_behind_those_that_are_ready_and_not_for_ever() -> None:
    made = groups(3)
    for stream in (1, 2):
        made.join(stream)
        assert made.next() == (stream, [stream])
    made.join(3)
    made.landed(1)
    assert made.next() == (1, [1])
    made.landed(2)
    assert made.next() == (3, [3])
    assert made.next() == (2, [2])


def test_a_group_has_no_more_rows_than_a_chunk_may_have() -> None:
    made = groups(1)
    for stream in range(1, 2 * MAX_ROWS + 11):
        made.join(stream)
    assert [len(members) for _, members in started(made)] == [MAX_ROWS, MAX_ROWS]


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(["join", "join", "leave", "land"]), st.integers(0, 99))))
def test_everybody_is_in_one_group_and_steps_again(stages: int, events: list[tuple[str, int]]) -> None:
    made, count = groups(stages), 0
    alive: list[int] = []
    flying: deque[tuple[int, list[int]]] = deque()
    for event, which in [*events, *[("land", 0)] * (4 * stages + 4)]:
        if event == "join":
            count += 1
            alive.append(count)
            made.join(count)
        elif event == "leave" and alive:
            made.leave(alive.pop(which % len(alive)))
        elif event == "land" and flying:
            made.landed(flying.popleft()[0])
        flying.extend(started(made))
        rows = [stream for _, members in flying for stream in members if stream in alive]
        assert len(rows) == len(set(rows))
        assert len({group for group, _ in flying}) == len(flying) <= stages + 1
        assert made.streams == len(alive)
        assert bool(alive) <= bool(flying)
    assert sorted(stream for _, members in flying for stream in members) == alive
    sizes = [len(members) for _, members in flying]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(sizes) == min(stages, len(alive))


def test_a_long_text_does_not_pad_seven_short_ones() -> None:
    lengths = {1: 8000} | dict.fromkeys(range(2, 9), 50)
    made = of(lengths, 1)
    chunks = dict(started(made))
    assert chunks == {1: [1, 2], 2: [3, 4, 5, 6, 7, 8]}, "two are within it whatever their lengths"
    alone = sum(-(-length // STEP) * STEP for length in lengths.values())
    padded = sum(len(rows) * (max(lengths[row] for row in rows) + STEP) for rows in chunks.values())
    assert padded <= WASTE * alone + 2 * SLACK


def test_lengths_that_are_near_each_other_do_not_make_more_groups() -> None:
    made = of({stream: 3000 + 500 * (stream % 4) for stream in range(1, 17)}, 2)
    assert [len(rows) for _, rows in started(made)] == [8, 8]
    made = of({stream: 25 * stream for stream in range(1, 21)}, 1)
    assert [len(rows) for _, rows in started(made)] == [20], "short ones all the more"


def test_streams_that_fit_overtake_one_that_does_not() -> None:
    made = of({1: 50, 2: 50, 3: 50, 4: 9000, 5: 50}, 1)
    assert started(made) == [(1, [1, 2, 3, 5]), (2, [4])]


def test_an_extra_group_stays_as_long_as_lengths_need_it_and_goes_with_the_need() -> None:
    lengths = {1: 8000} | dict.fromkeys(range(2, 9), 50)
    made = of(lengths, 1)
    before = started(made)
    for _ in range(5):
        for group, _ in before:
            made.landed(group)
        assert started(made) == before, "nobody is moved without need"
    made.leave(1)
    made.landed(1)
    made.landed(2)
    assert started(made) == [(2, [3, 4, 5, 6, 7, 8, 2])]


def test_with_all_groups_there_it_joins_where_the_least_is_wasted() -> None:
    lengths = {1: 20_000} | dict.fromkeys(range(2, 6), 50)
    made = of(lengths, 1)
    assert started(made) == [(1, [1, 2]), (2, [3, 4, 5])]
    lengths[6] = 3000
    made.join(6)
    for _ in range(3):
        made.landed(1)
        made.landed(2)
        assert started(made) == [(1, [1, 2]), (2, [3, 4, 5, 6])], "over the bound by less than in the other"
    made.leave(1)
    made.leave(2)
    made.landed(1)
    made.landed(2)
    assert started(made) == [(2, [3, 4, 5]), (3, [6])], "with a place free, the bound holds again"


def test_a_batch_that_those_who_left_have_put_over_its_bound_is_divided() -> None:
    lengths = {1: 8000, 2: 8000, 3: 8000, 4: 50, 5: 50}
    made = of(lengths, 1)
    assert started(made) == [(1, [1, 2, 3, 4, 5])]
    made.leave(1)
    made.leave(2)
    made.landed(1)
    assert started(made) == [(1, [3, 4]), (2, [5])]


BACK_AND_FORTH = [
    *[("join", 0, length) for length in (1, 1, 1, 700, 1, 1, 1, 150_000)],
    *[("leave", which, 0) for which in (0, 0, 2)],
    *[("join", 0, length) for length in (1, 1, 20_000)],
    ("land", 0, 0),
    *[("join", 0, 1)] * 4,
    *[("leave", which, 0) for which in (0, 1)],
]
"""Two short texts could take each other's place for ever: one over its group's share, one in a group too many."""

LENGTHS = st.sampled_from([1, 40, 700, 3000, 20_000, 150_000])


@given(st.lists(LENGTHS, min_size=1, max_size=30), st.integers(0, 400))
def test_a_batch_within_its_bound_stays_there_as_its_members_grow(lengths: list[int], steps: int) -> None:
    size, grown = Size.of(lengths), Size.of([length + steps for length in lengths])
    assert (size.excess > 0) == over_bound(lengths)
    assert grown.excess <= size.excess


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(["join", "join", "leave", "land"]), st.integers(0, 99), LENGTHS), max_size=60),
)
@example(3, BACK_AND_FORTH)
def test_padding_is_bounded_while_there_can_be_another_group_and_nobody_starves(
    stages: int, events: list[tuple[str, int, int]]
) -> None:
    lengths = {0: 0}
    made = groups(stages, lengths)
    alive: dict[int, int] = {}
    """Stream -> chunks that have started since its last one."""
    flying: deque[tuple[int, list[int]]] = deque()
    for event, which, length in [*events, *[("land", 0, 0)] * (12 * (stages + 1))]:
        if event == "join":
            stream = len(lengths)
            lengths[stream], alive[stream] = length, 0
            made.join(stream)
        elif event == "leave" and alive:
            stream = sorted(alive)[which % len(alive)]
            del alive[stream]
            made.leave(stream)
        elif event == "land" and flying:
            made.landed(flying.popleft()[0])
        for group, rows in started(made):
            flying.append((group, rows))
            assert len(made) == stages + 1 or not over_bound([lengths[row] for row in rows])
            alive = {stream: chunks + 1 for stream, chunks in alive.items()} | dict.fromkeys(rows, 0)
            for row in rows:
                lengths[row] += 1
        members = [row for _, rows in flying for row in rows if row in alive]
        assert len(members) == len(set(members))
        assert len({group for group, _ in flying}) == len(flying) <= stages + 1
        assert bool(alive) <= bool(flying)
        assert max(alive.values(), default=0) <= 12 * (stages + 1), "it has been passed over for too long"
    assert sorted(row for _, rows in flying for row in rows) == sorted(alive), "all have their places"
