"""Remembered responses are bounded by number and size; what was unused for longest goes first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nova.api.responses.store import Store, Stored


def stored(text: str) -> Stored:
    return Stored({"text": text}, [])


def size(text: str) -> int:
    return len(f'[{{"text":"{text}"}},[]]')


def test_the_response_unused_for_longest_goes_first() -> None:
    store = Store(most=2)
    store.put("", "a", stored("1"))
    store.put("", "b", stored("2"))
    assert store.get("", "a") == stored("1")
    store.put("", "c", stored("3"))
    assert [store.get("", name) for name in "abc"] == [stored("1"), None, stored("3")]


def test_a_large_response_makes_room_and_one_too_large_is_not_kept() -> None:
    store = Store(most_bytes=size("x" * 100))
    store.put("", "a", stored("x"))
    store.put("", "b", stored("x" * 100))
    assert (store.get("", "a"), store.get("", "b")) == (None, stored("x" * 100))
    store.put("", "c", stored("x" * 101))
    assert store.get("", "c") is None


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 9), st.integers(0, 60)), max_size=60))
def test_no_bound_is_ever_exceeded_and_nothing_leaks(steps: list[tuple[str, int, int]]) -> None:
    store, put = Store(most=4, most_bytes=200), 0
    names: list[str] = []
    held: dict[str, Stored] = {}
    for action, which, length in steps:
        name = names[which % len(names)] if names else "none"
        if action == "put":
            put += 1
            names.append(f"r{put}")
            store.put("", names[-1], stored("x" * length))
        elif action == "get":
            store.get("", name)
        else:
            assert store.drop("", name) == (name in held)
            assert store.get("", name) is None
        held = {one: found for one in names if (found := store.get("", one))}
        assert len(held) <= 4
        assert sum(size(one.document["text"]) for one in held.values()) <= 200
    for name in names:
        store.drop("", name)
    store.put("", "last", stored("x" * (200 - size(""))))
    assert store.get("", "last") is not None, "all room came back"


def test_a_response_is_its_owners() -> None:
    store = Store()
    store.put("mine", "r", stored("1"))
    assert store.get("other", "r") is None
    assert not store.drop("other", "r")
    assert store.get("mine", "r") == stored("1")
