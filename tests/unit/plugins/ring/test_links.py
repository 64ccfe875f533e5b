"""Every rank computes the same connections from the same cards and reports."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nova_transport_ring.links import NOBODY, Card, Listener, agree, host_file, neighbours, targets

DOMAINS = st.sampled_from(["ip4/10.0.0.0/24", "ip4/10.0.1.0/24", "loopback/x"])


@st.composite
def cards(draw: st.DrawFn) -> list[Card]:
    """Two to five ranks with up to four addresses each, no two of them equal."""
    size = draw(st.integers(2, 5))
    return [
        Card(
            [Listener(f"10.{rank}.0.{index}", draw(DOMAINS), 49500 + index) for index in range(draw(st.integers(1, 4)))]
        )
        for rank in range(size)
    ]


@st.composite
def rings(draw: st.DrawFn) -> tuple[list[Card], list[dict[int, list[str]]]]:
    """Cards, and what each rank reached of what it may dial."""
    found = draw(cards())
    reached = []
    for rank, card in enumerate(found):
        hosts = {other: [each.host for each in targets(card, found[other])] for other in neighbours(rank, len(found))}
        reached.append({other: [host for host in each if draw(st.booleans())] for other, each in hosts.items()})
    return found, reached


def agreed(cards: Sequence[Card], reached: list[dict[int, list[str]]], limit: int) -> list[list[Listener]] | None:
    try:
        return agree(cards, reached, limit)
    except ValueError:
        return None


@given(rings(), st.integers(1, 4))
def test_all_links_have_equally_many_connections_within_the_limit(
    case: tuple[list[Card], list[dict[int, list[str]]]], limit: int
) -> None:
    links = agreed(*case, limit)
    if links is not None:
        assert {len(link) for link in links} == {len(links[0])}
        assert 1 <= len(links[0]) <= limit


@given(rings(), st.integers(1, 4))
def test_a_link_uses_only_addresses_that_its_dialler_reached_in_a_shared_network_and_each_once(
    case: tuple[list[Card], list[dict[int, list[str]]]], limit: int
) -> None:
    found, reached = case
    for rank, link in enumerate(agreed(found, reached, limit) or []):
        left = (rank - 1) % len(found)
        networks = {each.domain for each in found[left].listeners}
        assert len({each.host for each in link}) == len(link)
        for each in link:
            assert each in found[rank].listeners
            assert each.host in reached[left][rank]
            assert each.domain in networks


@given(rings(), st.integers(1, 4))
def test_a_link_is_refused_exactly_when_its_dialler_reached_nothing(
    case: tuple[list[Card], list[dict[int, list[str]]]], limit: int
) -> None:
    found, reached = case
    size = len(found)
    broken = any(not reached[(rank - 1) % size][rank] for rank in range(size))
    assert (agreed(found, reached, limit) is None) == broken


@given(rings())
def test_what_is_allowed_more_keeps_the_order_of_what_is_allowed_less(
    case: tuple[list[Card], list[dict[int, list[str]]]],
) -> None:
    for few, many in zip(agreed(*case, 1) or [], agreed(*case, 4) or [], strict=True):
        assert many[: len(few)] == few


@given(rings(), st.integers(1, 4))
def test_both_ends_of_a_link_tell_mlx_the_same_and_no_one_else_s_is_told(
    case: tuple[list[Card], list[dict[int, list[str]]]], limit: int
) -> None:
    links = agreed(*case, limit)
    if links is None:
        return
    files = [host_file(rank, links) for rank in range(len(links))]
    for rank, file in enumerate(files):
        right = (rank + 1) % len(links)
        assert file[right] == files[right][right] == [f"{each.host}:{each.port}" for each in links[right]]
        others = set(range(len(links))) - {rank, *neighbours(rank, len(links))}
        assert all(file[other] == [NOBODY] for other in others)


def test_the_neighbours_are_the_ranks_on_both_sides_and_one_of_two_has_one() -> None:
    assert neighbours(0, 2) == [1]
    assert neighbours(1, 2) == [0]
    assert neighbours(0, 3) == [1, 2]
    assert neighbours(2, 4) == [1, 3]


def test_the_reason_names_the_link_that_nobody_could_dial() -> None:
    found = [Card([Listener(f"10.0.0.{rank}", "ip4/10.0.0.0/24", 49500)]) for rank in range(3)]
    reached = [{1: ["10.0.0.1"], 2: ["10.0.0.2"]}, {0: ["10.0.0.0"], 2: []}, {0: ["10.0.0.0"], 1: ["10.0.0.1"]}]
    with pytest.raises(ValueError, match="rank 1 reached none of the addresses of rank 2"):
        agree(found, reached, 1)


def test_addresses_best_for_both_come_first() -> None:
    ours = Card([Listener("10.0.1.1", "cable", 1), Listener("10.0.0.1", "lan", 2)])
    theirs = Card([Listener("10.0.0.2", "lan", 3), Listener("10.0.1.2", "cable", 4), Listener("10.9.9.9", "wifi", 5)])
    assert {each.host for each in targets(ours, theirs)} == {"10.0.0.2", "10.0.1.2"}
    best = Card([Listener("10.0.1.2", "cable", 4), Listener("10.0.0.2", "lan", 3)])
    assert [each.host for each in targets(ours, best)] == ["10.0.1.2", "10.0.0.2"]


@pytest.mark.parametrize(
    "listener",
    [
        b'{"host":"fe80::1","domain":"x","port":1}',
        b'{"host":"mini.local","domain":"x","port":1}',
        b'{"host":"10.0.0.1","domain":"x","port":0}',
        b'{"host":"10.0.0.1","domain":"x","port":70000}',
        b'{"host":"10.0.0.1","domain":"x"}',
        b'{"host":"10.0.0.1","domain":"x","port":1,"more":1}',
    ],
)
def test_a_card_with_anything_but_ipv4_addresses_and_ports_is_malformed(listener: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(b'{"listeners":[' + listener + b"]}", type=Card)


def test_a_card_without_addresses_or_with_too_many_is_malformed() -> None:
    one = b'{"host":"10.0.0.1","domain":"x","port":1}'
    for listeners in (b"", b",".join([one] * 17)):
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(b'{"listeners":[' + listeners + b"]}", type=Card)


def test_by_default_every_address_on_a_link_as_fast_as_the_best_gets_a_connection() -> None:
    def card(rank: int, *speeds: int) -> Card:
        return Card([Listener(f"10.0.{net}.{rank + 1}", f"net{net}", 1, speed) for net, speed in enumerate(speeds)])

    def connections(*speeds: int, limit: int = 0) -> list[int]:
        cards = [card(rank, *speeds) for rank in range(2)]
        reached = [{1 - rank: [each.host for each in cards[1 - rank].listeners]} for rank in range(2)]
        return [len(each) for each in agree(cards, reached, limit)]

    assert connections(40_000, 40_000, 1_000) == [2, 2]
    assert connections(1_000, 40_000) == [1, 1]
    assert connections(0, 0) == [1, 1], "nobody knows which of them is Wi-Fi"
    assert connections(40_000, 1_000, limit=2) == [2, 2], "whoever says so knows"
