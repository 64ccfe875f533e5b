from __future__ import annotations

import threading

import pytest

from nova.errors import GroupBroken, GroupClosed, PeerLost
from nova.transport.life import Life


def life() -> tuple[Life, list[str]]:
    told: list[str] = []
    return Life(lambda: told.append("wake"), lambda: told.append("release")), told


def test_closing_wakes_then_releases_once() -> None:
    it, told = life()
    assert it.close()
    assert not it.close()
    assert told == ["wake", "release"]
    with pytest.raises(GroupClosed), it:
        pass
    assert told == ["wake", "release"]


def test_what_a_call_uses_is_released_when_it_has_left() -> None:
    it, told = life()
    with it:
        it.close()
        assert told == ["wake"]
    assert told == ["wake", "release"]


def test_the_first_failure_sticks() -> None:
    it, _ = life()
    first = PeerLost(1, "first")
    assert it.broke(first) is first
    second = PeerLost(2, "second")
    assert it.broke(second) is second
    with pytest.raises(GroupBroken, match="first"), it:
        pass


def test_a_failure_after_a_close_is_only_its_echo() -> None:
    it, _ = life()
    it.close()
    assert isinstance(it.broke(PeerLost(1, "gone")), GroupClosed)


def test_many_threads_release_exactly_once_and_never_inside_a_call() -> None:
    for _ in range(20):
        inside = [0]
        wrong: list[int] = []
        releases: list[int] = []

        def release(inside: list[int] = inside, wrong: list[int] = wrong, releases: list[int] = releases) -> None:
            releases.append(1)
            wrong.extend(inside[:1] if inside[0] else [])

        it = Life(lambda: None, release)
        go = threading.Barrier(5)

        def call(it: Life = it, go: threading.Barrier = go, inside: list[int] = inside) -> None:
            go.wait(5)
            try:
                while True:
                    with it:
                        inside[0] = 1
                        inside[0] = 0
            except GroupClosed:
                pass

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        go.wait(5)
        it.close()
        for thread in threads:
            thread.join(5)
        assert (releases, wrong) == ([1], [])
