"""Who decodes with whom: even groups, nobody moved without need, nobody overtaken for ever."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from nova.engine.groups import Groups
from nova.plan.costs import Costs
from nova.wire.rows import MAX_ROWS


def groups(stages: int) -> Groups:
    """With nothing measured, one group for each stage."""
    return Groups(Costs(stages), stages + 1, lambda _: 0)


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
