"""Cards and places: what is right is read as it was meant, and everything else is refused with the rank's name."""

from __future__ import annotations

import base64
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nova_transport_mpi import world
from nova_transport_mpi.place import NAMES

from nova.errors import ProtocolError
from nova.transport.api import Seat

SEATS = [Seat("group", 3, rank, 3, b"t" * 32, (f"192.168.0.{rank + 1}",)) for rank in range(3)]


def place(rank: int, size: int = 3) -> dict[str, str]:
    return {"PMIX_RANK": str(rank), "OMPI_COMM_WORLD_SIZE": str(size), "PMIX_NAMESPACE": "prterun-a-1@1"}


def record(rank: int, variables: dict[str, str]) -> bytes:
    return f"<{rank} {base64.b64encode(msgspec.json.encode(variables)).decode()}>".encode()


def test_cards_give_every_rank_s_address() -> None:
    cards = [world.card(seat) for seat in SEATS]
    assert world.hosts(SEATS[1], cards) == ["192.168.0.1", "192.168.0.2", "192.168.0.3"]


@pytest.mark.parametrize(
    "other",
    [
        world.card(replace(SEATS[1], ticket=b"x" * 32)),
        world.card(replace(SEATS[1], generation=4)),
        world.card(replace(SEATS[1], group="another")),
        world.card(replace(SEATS[1], hosts=("fe80::1",))),
        world.card(replace(SEATS[1], hosts=("mini; rm -r /",))),
        world.card(SEATS[2]),
        world.card(SEATS[1])[:-1],
        b"",
    ],
    ids=["ticket", "generation", "group", "IPv6", "no address", "rank", "cut", "empty"],
)
def test_a_wrong_card_is_refused_by_name(other: bytes) -> None:
    cards = [world.card(SEATS[0]), other, world.card(SEATS[2])]
    with pytest.raises(ProtocolError, match="rank 1"):
        world.hosts(SEATS[0], cards)


def test_too_few_cards_are_refused() -> None:
    with pytest.raises(ProtocolError, match="2 cards"):
        world.hosts(SEATS[0], [world.card(seat) for seat in SEATS[:2]])


noise = st.text(alphabet="abc <>\r\n-", max_size=20).filter(lambda text: not any(c.isdigit() for c in text))


@given(st.permutations(range(3)), st.lists(noise, min_size=4, max_size=4))
def test_places_are_found_in_any_order_between_whatever_mpirun_writes(order: list[int], between: list[str]) -> None:
    pieces = [record(rank, place(rank)) for rank in order]
    text = b"".join(words.encode() + piece for words, piece in zip(between, [*pieces, b""], strict=True))
    assert world.records(text) == {rank: place(rank) for rank in range(3)}


@given(st.integers(0, 200))
def test_a_place_is_there_once_it_has_come_whole(count: int) -> None:
    whole = record(0, place(0))
    assert world.records(whole[:count]) == ({0: place(0)} if count >= len(whole) else {})


@pytest.mark.parametrize("coded", [b"AAA", b"AAAA", base64.b64encode(b"[]"), base64.b64encode(b'{"a": "\\u0000"}')])
def test_a_malformed_place_is_refused_by_name(coded: bytes) -> None:
    with pytest.raises(ProtocolError, match="rank 2"):
        world.records(b"<2 " + coded + b">")


def test_each_rank_takes_its_own_place() -> None:
    blob = world.told([place(rank) for rank in range(3)])
    assert [world.answered(seat, blob) for seat in SEATS] == [place(rank) for rank in range(3)]


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([place(0), {**place(1), "LD_PRELOAD": "/x.so"}, place(2)], "LD_PRELOAD"),
        ([place(0), {**place(1), "OMPI_MCA_mca_base_component_path": "/x"}, place(2)], "component_path"),
        ([place(0), place(2), place(1)], "place of another"),
        ([place(0), place(1, size=4), place(2)], "place of another"),
        ([place(0), {}, place(2)], "place of another"),
        ([place(0), place(1)], "2 places for 3"),
        ([], "0 places for 3"),
    ],
)
def test_a_place_that_is_not_this_rank_s_is_refused(places: list[dict[str, str]], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        world.answered(SEATS[1], world.told(places))


def test_the_reason_of_rank_0_is_told_however_long_it_is() -> None:
    with pytest.raises(ProtocolError, match="no mpirun"):
        world.answered(SEATS[1], world.told([], "no mpirun" + "!" * 10_000))


@given(st.binary(max_size=200))
def test_no_answer_raises_anything_else(blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        world.answered(SEATS[1], blob)


def test_an_answer_beyond_its_limit_is_not_decoded() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        world.answered(SEATS[1], b" " * world.MAX_ANSWER_BYTES + world.told([place(rank) for rank in range(3)]))


def test_no_parameter_that_names_code_is_passed_on() -> None:
    assert not [name for name in NAMES if "_MCA_" in name]
