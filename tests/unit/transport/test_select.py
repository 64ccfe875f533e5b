"""Every transport is judged, every "no" has its reason, and the same inputs give the same answer."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.config.schema import Transport as Policy
from nova.transport.api import Caps
from nova.transport.offers import names
from nova.transport.select import FRAMES, Candidate, select
from nova.wire.values import AttachmentOffer, LinkMeasure, TransportOffer

LAN = AttachmentOffer("ip4/10.0.0.0/24", "10.0.0.1", 1e-4, 1e8)
FAST = AttachmentOffer("ip4/10.1.0.0/24", "10.1.0.1", 1e-5, 1e9)
CABLE = AttachmentOffer("tb/a-b", "169.254.1.1", 1e-5, 1e9)
HERE = AttachmentOffer("loopback/m", "127.0.0.1", 1e-5, 1e9)

BYTES = names(FRAMES | Caps.ANY_PAIR | Caps.AUTHENTICATED)
ARRAYS = names(Caps.ARRAYS | Caps.PEER_FAILURE)


def offer(name: str = "tcp", **changes: Any) -> TransportOffer:
    fields: dict[str, Any] = {"version": "1.2", "api": (1, 0), "caps": BYTES, "attachments": [LAN]}
    return TransportOffer(name, **(fields | changes))


def policy(*order: str, **changes: Any) -> Policy:
    return Policy(order=list(order) or ["tcp"], **changes)


def chosen(offers: dict[str, list[TransportOffer]], policy: Policy, measured: Any = None) -> list[str]:
    return [each.name for each in select(offers, policy, measured).ranked]


def test_the_policys_order_ranks_what_all_nodes_share() -> None:
    both = [offer("tcp"), offer("zmq")]
    selection = select({"a": both, "b": both}, policy("zmq", "tcp"))
    assert [each.name for each in selection.ranked] == ["zmq", "tcp"]
    assert selection.rejected == {}


def test_what_is_allowed_beyond_the_order_comes_after_it_and_the_cheapest_first() -> None:
    near, far = offer("near", attachments=[FAST]), offer("far")
    both = [far, near, offer("tcp")]
    assert chosen({"a": both, "b": both}, policy("tcp", allow=["far", "near", "tcp"])) == ["tcp", "near", "far"]


@pytest.mark.parametrize(
    ("of_b", "reason"),
    [
        ([], "b does not offer it"),
        ([offer(unavailable="librdma is missing")], "unavailable on b: librdma is missing"),
        ([offer(), offer()], "b offers it more than once"),
        ([offer(api=(2, 0))], "API major differs: a has 1, b has 2"),
        ([offer(version="2.0")], "version major differs: a has 1, b has 2"),
        ([offer(alike={"mlx": "0.32"})], "mlx differs: a has nothing, b has 0.32"),
        ([offer(caps=["BYTES", "DEADLINE"])], "b lacks ABORT, PEER_FAILURE, FULL_DUPLEX"),
        ([offer(attachments=[CABLE])], "a and b share no network: a is on ip4/10.0.0.0/24, b on tb/a-b"),
        ([offer(attachments=[HERE])], "a and b share no network: a is on ip4/10.0.0.0/24, b on its loopback"),
        ([offer(attachments=[])], "a and b share no network: a is on ip4/10.0.0.0/24, b on none"),
    ],
)
def test_every_no_has_its_reason(of_b: list[TransportOffer], reason: str) -> None:
    selection = select({"a": [offer()], "b": of_b}, policy("tcp"))
    assert selection.rejected == {"tcp": reason}
    assert selection.ranked == []


def test_what_the_policy_forbids_is_rejected_by_name() -> None:
    both = [offer("ring"), offer(), offer("zmq")]
    assert select({"a": both, "b": both}, policy("tcp", "zmq", deny=["zmq"])).rejected == {
        "ring": "not in transport.order",
        "zmq": "transport.deny names it",
    }
    assert select({"a": both, "b": both}, policy("tcp", "zmq", allow=["zmq"])).rejected == {
        "ring": "not in transport.allow",
        "tcp": "not in transport.allow",
    }


def test_a_group_is_as_safe_as_its_least_safe_node_on_every_address_that_it_uses() -> None:
    """Else the addresses of a pair that may use the LAN would serve a pair that may not, too."""
    whole, bare = offer(attachments=[LAN, CABLE]), offer(attachments=[LAN, CABLE], caps=BARE)
    nodes = {"a": [whole], "b": [whole], "c": [bare]}
    (candidate,) = select(nodes, policy("tcp", trusted=["thunderbolt"])).ranked
    assert candidate.hosts == {node: [CABLE.address] for node in "abc"}


# --- security ---------------------------------------------------------------------------------------------------------

BARE = names(FRAMES | Caps.ANY_PAIR)


@pytest.mark.parametrize(
    ("caps", "security", "trusted", "reason"),
    [
        (BARE, "none", [], None),
        (BARE, "authenticated", [], "it does not authenticate, and 10.0.0.0/24 is not in transport.trusted"),
        (BARE, "authenticated", ["10.0.0.0/16"], None),
        (BARE, "authenticated", ["loopback", "10.0.0.0/25", "fe80::/10"], "it does not authenticate"),
        (BYTES, "authenticated", [], None),
        (BYTES, "encrypted", [], "it does not encrypt, and 10.0.0.0/24 is not in transport.trusted"),
        (BYTES, "encrypted", ["10.0.0.0/24"], None),
        ([*BYTES, "ENCRYPTED"], "encrypted", [], None),
        ([*BARE, "ENCRYPTED"], "encrypted", [], "it does not encrypt"),
    ],
)
def test_a_link_is_as_safe_as_the_policy_asks_unless_its_network_is_trusted(
    caps: list[str], security: str, trusted: list[str], reason: str | None
) -> None:
    both = [offer(caps=caps)]
    selection = select({"a": both, "b": both}, policy("tcp", security=security, trusted=trusted))
    if reason is None:
        assert selection.rejected == {}
    else:
        assert reason in selection.rejected["tcp"]


@pytest.mark.parametrize(("word", "attachment"), [("loopback", HERE), ("thunderbolt", CABLE)])
def test_the_words_for_trusted_networks_mean_their_domains(word: str, attachment: AttachmentOffer) -> None:
    both = [offer(caps=BARE, attachments=[attachment])]
    assert chosen({"a": both, "b": both}, policy("tcp", trusted=[word])) == ["tcp"]
    assert chosen({"a": both, "b": both}, policy("tcp", trusted=["10.0.0.0/8"])) == []


def test_only_addresses_on_a_network_that_may_be_used_are_handed_out() -> None:
    both = [offer(caps=BARE, attachments=[LAN, FAST])]
    (candidate,) = select({"a": both, "b": both}, policy("tcp", trusted=["10.1.0.0/24"])).ranked
    assert candidate.hosts == {"a": ["10.1.0.1"], "b": ["10.1.0.1"]}


# --- who must reach whom ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caps", [BYTES, names(FRAMES | Caps.AUTHENTICATED)], ids=["any pair", "ring"])
def test_the_last_node_must_reach_the_first(caps: list[str]) -> None:
    def on(*attachments: AttachmentOffer) -> list[TransportOffer]:
        return [offer(caps=caps, attachments=list(attachments))]

    chain = {"a": on(LAN), "b": on(LAN, CABLE), "c": on(CABLE)}
    reason = select(chain, policy("tcp")).rejected["tcp"]
    assert "share no network" in reason
    assert "a" in reason
    assert "c" in reason
    assert chosen({"a": chain["a"], "b": chain["b"]}, policy("tcp")) == ["tcp"]


def test_neighbours_of_a_ring_are_enough_unless_every_pair_is_connected() -> None:
    sides = [AttachmentOffer(f"ip4/10.0.{index}.0/24", f"10.0.{index}.1", 1e-4, 1e8) for index in range(4)]
    for caps, expected in ((names(FRAMES | Caps.AUTHENTICATED), ["tcp"]), (BYTES, [])):
        nodes = {
            node: [offer(caps=caps, attachments=[sides[index], sides[(index + 1) % 4]])]
            for index, node in enumerate("abcd")
        }
        assert chosen(nodes, policy("tcp")) == expected


def test_one_node_needs_no_network() -> None:
    assert chosen({"a": [offer(attachments=[])]}, policy("tcp")) == ["tcp"]


# --- arrays and their side channel ------------------------------------------------------------------------------------


def test_a_transport_of_arrays_gets_the_best_transport_of_bytes_beside_it() -> None:
    both = [offer("ring", caps=ARRAYS, attachments=[HERE]), offer("zmq"), offer("tcp")]
    (ring,) = select({"a": both, "b": both}, policy("ring", side=["zmq", "tcp"])).ranked
    assert ring.side is not None
    assert (ring.name, ring.side.name) == ("ring", "zmq")
    assert (ring.hosts["a"], ring.side.hosts["a"]) == (["127.0.0.1"], ["10.0.0.1"])


def test_a_side_channel_needs_not_be_in_the_order_but_must_not_be_denied() -> None:
    both = [offer("ring", caps=ARRAYS, attachments=[HERE]), offer("tcp")]
    assert chosen({"a": both, "b": both}, policy("ring")) == ["ring"]
    reason = select({"a": both, "b": both}, policy("ring", deny=["tcp"])).rejected["ring"]
    why = "tcp: transport.deny names it; zmq: a does not offer it"
    assert reason == f"it moves arrays only, and nothing can carry its headers: {why}"


# --- cost -------------------------------------------------------------------------------------------------------------


def test_a_measurement_replaces_the_estimate_on_its_link() -> None:
    both = [offer("near", attachments=[FAST]), offer("far")]
    free = policy("none", allow=["near", "far"])
    assert chosen({"a": both, "b": both}, free) == ["near", "far"]
    slow = {("near", "a", "b"): LinkMeasure(1, 0.5, 1e6), ("near", "b", "a"): LinkMeasure(0, 1e-6, 1e9)}
    selection = select({"a": both, "b": both}, free, slow)
    assert [(each.name, each.measured) for each in selection.ranked] == [("far", False), ("near", True)]
    assert selection.ranked[1].cost_s == pytest.approx(0.5 + 16384 / 1e6)


@pytest.mark.parametrize("figures", [(-1.0, 1e9), (1e-3, 0.0), (1e-3, -5.0), (float("nan"), 1e9), (1e-3, float("nan"))])
def test_nonsense_figures_of_a_node_make_its_link_the_last_choice(figures: tuple[float, float]) -> None:
    odd = AttachmentOffer(LAN.domain, LAN.address, *figures)
    offers = {"a": [offer("odd"), offer("far")], "b": [offer("odd", attachments=[odd]), offer("far")]}
    assert chosen(offers, policy("none", allow=["odd", "far"])) == ["far", "odd"]


a_transport = st.builds(
    TransportOffer,
    st.sampled_from(["tcp", "zmq", "ring"]),
    st.sampled_from(["1.0", "1.1", "2.0"]),
    st.sampled_from([(1, 0), (2, 0)]),
    st.sampled_from([BYTES, BARE, ARRAYS, []]),
    st.lists(st.sampled_from([LAN, CABLE, HERE]), unique_by=id),
    alike=st.dictionaries(st.just("mlx"), st.sampled_from(["1", "2"])),
    unavailable=st.none() | st.just("no"),
)

some = st.lists(st.sampled_from(["tcp", "zmq", "ring", "mpi"]), unique=True)
a_policy = st.builds(
    Policy, order=some, allow=some, deny=some, side=some, security=st.sampled_from(["none", "authenticated"]),
    trusted=st.lists(st.sampled_from(["loopback", "thunderbolt", "10.0.0.0/8"]), unique=True),
)  # fmt: skip


@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(a_transport, max_size=5), min_size=1),
    a_policy,
    st.randoms(use_true_random=False),
)
def test_the_order_of_a_nodes_offers_decides_nothing_and_everything_named_is_judged(
    offers: dict[str, list[TransportOffer]], rules: Policy, shuffle: random.Random
) -> None:
    selection = select(offers, rules)
    shuffled = {node: shuffle.sample(of_node, len(of_node)) for node, of_node in offers.items()}
    assert select(shuffled, rules) == selection
    ranked = [each.name for each in selection.ranked]
    assert not set(ranked) & set(selection.rejected)
    offered = {each.name for of_node in offers.values() for each in of_node}
    named = offered - set(rules.side) | {*rules.order, *rules.allowed, *rules.deny}
    assert {*ranked, *selection.rejected} == named
    assert all(selection.rejected.values())
    assert set(ranked) <= set(rules.allowed)
    for candidate in selection.ranked:
        assert _is_sound(candidate, rules)


def _is_sound(candidate: Candidate, rules: Policy) -> bool:
    beside = candidate.side
    return beside is None or (beside.name in rules.side and beside.name not in rules.deny and beside.side is None)
