from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.transport.api import Caps
from nova.transport.select import Selection, select
from nova.wire.values import AttachmentOffer, TransportOffer

LAN = AttachmentOffer("ip4/10.0.0.0/24", "10.0.0.1", 1e-4, 1e8)
CABLE = AttachmentOffer("tb/a-b", "169.254.1.1", 1e-5, 1e9)


def offer(name: str = "tcp", **changes: Any) -> TransportOffer:
    fields: dict[str, Any] = {"version": "1.2", "api": (1, 0), "caps": ["DEADLINE", "ABORT"], "attachments": [LAN]}
    return TransportOffer(name, **(fields | changes))


def test_the_policy_ranks_what_all_nodes_share() -> None:
    both = [offer("tcp"), offer("zmq")]
    assert select({"a": both, "b": both}, ["zmq", "tcp"], Caps.ABORT) == Selection(["zmq", "tcp"], {})


@pytest.mark.parametrize(
    ("of_b", "reason"),
    [
        ([], "b does not offer it"),
        ([offer(unavailable="librdma is missing")], "unavailable on b: librdma is missing"),
        ([offer(), offer()], "b offers it more than once"),
        ([offer(api=(2, 0))], "API major differs: a has 1, b has 2"),
        ([offer(version="2.0")], "version major differs: a has 1, b has 2"),
        ([offer(caps=["DEADLINE"])], "b lacks ABORT"),
        ([offer(attachments=[CABLE])], "a and b share no network: a is on ip4/10.0.0.0/24, b on tb/a-b"),
        ([offer(attachments=[])], "a and b share no network: a is on ip4/10.0.0.0/24, b on none"),
    ],
)
def test_every_no_has_its_reason(of_b: list[TransportOffer], reason: str) -> None:
    chosen = select({"a": [offer()], "b": of_b}, ["tcp"], Caps.DEADLINE | Caps.ABORT)
    assert chosen == Selection([], {"tcp": reason})


def test_what_is_offered_against_the_policy_is_rejected_by_name() -> None:
    chosen = select({"a": [offer("ring"), offer()], "b": [offer()]}, ["tcp"], Caps(0))
    assert chosen == Selection(["tcp"], {"ring": "not in transport.order"})


def test_the_last_node_must_reach_the_first() -> None:
    chain = {"a": [offer(attachments=[LAN])], "b": [offer(attachments=[LAN, CABLE])], "c": [offer(attachments=[CABLE])]}
    assert "c and a share no network" in select(chain, ["tcp"], Caps(0)).rejected["tcp"]
    assert select({"a": chain["a"], "b": chain["b"]}, ["tcp"], Caps(0)).ranked == ["tcp"]


def test_one_node_needs_no_network() -> None:
    assert select({"a": [offer(attachments=[])]}, ["tcp"], Caps(0)).ranked == ["tcp"]


a_transport = st.builds(
    TransportOffer,
    st.sampled_from(["tcp", "zmq", "ring"]),
    st.sampled_from(["1.0", "1.1", "2.0"]),
    st.sampled_from([(1, 0), (2, 0)]),
    st.lists(st.sampled_from(["ABORT", "DEADLINE"]), unique=True),
    st.lists(st.sampled_from([LAN, CABLE]), unique_by=id),
    st.none() | st.just("no"),
)


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(a_transport, max_size=5), min_size=1),
    st.lists(st.sampled_from(["tcp", "zmq", "ring"]), unique=True),
    st.sampled_from([Caps(0), Caps.ABORT, Caps.ABORT | Caps.DEADLINE]),
    st.randoms(use_true_random=False),
)
def test_the_order_of_a_nodes_offers_decides_nothing(
    offers: dict[str, list[TransportOffer]], order: list[str], required: Caps, shuffle: random.Random
) -> None:
    chosen = select(offers, order, required)
    shuffled = {node: shuffle.sample(of_node, len(of_node)) for node, of_node in offers.items()}
    assert select(shuffled, order, required) == chosen
    assert not set(chosen.ranked) & set(chosen.rejected)
    named = {each.name for of_node in offers.values() for each in of_node} | set(order)
    assert set(chosen.ranked) | set(chosen.rejected) == named, "everything that anybody named is judged"
    assert chosen.ranked == [name for name in order if name in chosen.ranked]
    assert all(chosen.rejected.values())
