"""Nodes with several addresses: every one is listened at, the best shared one is dialled, and then the next."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import structlog
from nova_transport_tcp import TcpConfig, TcpTransport
from nova_transport_zmq import ZmqConfig, ZmqTransport

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import ByteGroup, Endpoint, Seat, Transport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has 127.0.0.1 only, unless an alias was made")

ONE, TWO = "127.0.0.1", "127.0.0.2"
JOIN_S = 6.0
TICKET = b"t" * 32

MAKERS: dict[str, Callable[[], Transport]] = {
    "tcp": lambda: TcpTransport(TcpConfig()),
    "zmq": lambda: ZmqTransport(ZmqConfig()),
    "zmq-plain": lambda: ZmqTransport(ZmqConfig(curve=False)),
}


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Callable[[], Transport]:
    return MAKERS[request.param]


class NoRendezvous:
    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        raise FormingFailed("join", "test", -1, "no rendezvous was lent")


@contextlib.contextmanager
def opened(make: Callable[[], Transport], *hosts: tuple[str, ...]) -> Iterator[list[Endpoint]]:
    """An endpoint per rank, each with hosts of its own."""
    endpoints = [make().open(Seat("addresses", 1, rank, len(hosts), TICKET, each)) for rank, each in enumerate(hosts)]
    try:
        yield endpoints
    finally:
        for endpoint in endpoints:
            endpoint.close()


def joined(endpoints: list[Endpoint], cards: list[bytes], join_s: float = JOIN_S) -> list[ByteGroup | FormingFailed]:
    def one(endpoint: Endpoint) -> ByteGroup | FormingFailed:
        try:
            group = endpoint.join(cards, NoRendezvous(), Deadline.after(join_s))
        except FormingFailed as error:
            return error
        assert isinstance(group, ByteGroup)
        return group

    with ThreadPoolExecutor(len(endpoints)) as pool:
        return list(pool.map(one, endpoints))


def ways(endpoints: list[Endpoint], cards: list[bytes] | None = None) -> dict[int, str]:
    """Join, pass a part to and fro, and end; by rank, over what it says that it reached the other."""
    with structlog.testing.capture_logs() as logs:
        groups = joined(endpoints, cards or [endpoint.card() for endpoint in endpoints])
    left, right = groups
    assert isinstance(left, ByteGroup), left
    assert isinstance(right, ByteGroup), right
    try:
        for source, sink in ((left, right), (right, left)):
            source.send([b"over", b"there" * 5000], sink.rank, Deadline.after(JOIN_S))
            out = bytearray(4)
            sink.recv_into(out, source.rank, Deadline.after(JOIN_S))
            sink.recv_into(bytearray(25000), source.rank, Deadline.after(JOIN_S))
            assert out == b"over"
    finally:
        left.abort()
        right.abort()
    said = [entry for entry in logs if entry["event"] == "connected"]
    return {1 - int(key[-1]): str(way) for entry in said for key, way in entry.items() if key.startswith("rank_")}


def changed(card: bytes, host: str, change: Callable[[Any], Any]) -> bytes:
    """The card with every port at `host` changed."""
    content = json.loads(card)
    for listener in content["listeners"]:
        if listener["host"] == host:
            for key in ("port", "ports"):
                if key in listener:
                    listener[key] = change(listener[key])
    return json.dumps(content).encode()


def every(port: int) -> Callable[[Any], Any]:
    """Replaces ports, in whatever structure they stand."""

    def change(ports: Any) -> Any:
        if isinstance(ports, dict):
            return {key: change(value) for key, value in ports.items()}
        return [change(value) for value in ports] if isinstance(ports, list) else port

    return change


def test_a_probe_has_an_attachment_for_every_address_that_is_ours_in_the_same_order(
    make: Callable[[], Transport],
) -> None:
    attachments = make().probe([TWO, "203.0.113.9", ONE]).attachments
    assert [each.address for each in attachments] == [TWO, ONE]
    assert {each.interface for each in attachments} == {"lo"}
    with pytest.raises(TransportUnavailable, match=r"203\.0\.113\.9 is not an address of this machine"):
        make().probe(["203.0.113.9"])


def test_an_endpoint_listens_at_each_of_its_addresses_and_at_no_other(make: Callable[[], Transport]) -> None:
    with opened(make, (TWO, ONE), (ONE,)) as (first, _):
        listeners = json.loads(first.card())["listeners"]
        assert [listener["host"] for listener in listeners] == [TWO, ONE]
        ours = {
            connection.laddr.ip
            for connection in psutil.Process().net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert ours == {ONE, TWO}


def test_the_best_address_of_both_is_dialled_from_the_best_of_ours(make: Callable[[], Transport]) -> None:
    with opened(make, (TWO, ONE), ("127.0.0.3", ONE)) as endpoints:
        found = ways(endpoints)
        assert f"{TWO} from 127.0.0.3 over lo" in found[1]
        assert f"127.0.0.3 from {TWO} over lo" in found[0]


def test_a_refused_address_gives_way_to_the_next(make: Callable[[], Transport]) -> None:
    with opened(make, (TWO, ONE), (ONE,)) as endpoints, socket.create_server((TWO, 0)) as gone:
        port = gone.getsockname()[1]
        gone.close()
        cards = [changed(endpoints[0].card(), TWO, every(port)), endpoints[1].card()]
        begun = monotonic()
        assert f"{ONE} from {ONE} over lo" in ways(endpoints, cards)[1]
        assert monotonic() - begun < JOIN_S / 2


def test_an_address_that_accepts_and_stays_silent_gives_way_to_the_next(make: Callable[[], Transport]) -> None:
    with opened(make, (TWO, ONE), (ONE,)) as endpoints, socket.create_server((TWO, 0)) as mute:
        cards = [changed(endpoints[0].card(), TWO, every(mute.getsockname()[1])), endpoints[1].card()]
        begun = monotonic()
        assert f"{ONE} from {ONE} over lo" in ways(endpoints, cards)[1]
        assert monotonic() - begun < JOIN_S * 0.8


def test_when_no_address_answers_each_is_named_with_its_reason(make: Callable[[], Transport]) -> None:
    with opened(make, (TWO, ONE), (ONE,)) as endpoints, socket.create_server((TWO, 0)) as mute:
        with socket.create_server((ONE, 0)) as gone:
            port = gone.getsockname()[1]
        card = changed(endpoints[0].card(), TWO, every(mute.getsockname()[1]))
        cards = [changed(card, ONE, every(port)), endpoints[1].card()]
        begun = monotonic()
        _, error = joined(endpoints, cards, join_s=1.2)
        assert monotonic() - begun < 2.5
    assert isinstance(error, FormingFailed)
    assert f"{TWO} from {ONE}: it accepts and stays silent" in error.cause
    assert f"{ONE} from {ONE}: Connection refused" in error.cause


def test_a_peer_on_no_network_of_ours_is_told_apart_from_one_that_does_not_answer(
    make: Callable[[], Transport],
) -> None:
    with opened(make, (ONE,), (ONE,)) as endpoints:
        card = json.loads(endpoints[0].card())
        card["listeners"][0]["domain"] = "ip4/10.0.0.0/8"
        with pytest.raises(FormingFailed, match=r"rank 0 shares no network with this one: it is on ip4/10\.0\.0\.0/8"):
            endpoints[1].join([json.dumps(card).encode(), endpoints[1].card()], NoRendezvous(), Deadline.after(JOIN_S))


@pytest.mark.parametrize("host", ["localhost", "", "1" * 65])
def test_a_card_that_names_a_host_is_malformed_and_nothing_is_looked_up(
    make: Callable[[], Transport], host: str
) -> None:
    with opened(make, (ONE,), (ONE,)) as endpoints:
        card = json.loads(endpoints[0].card())
        card["listeners"][0]["host"] = host
        with pytest.raises(FormingFailed, match="the card of rank 0 is malformed"):
            endpoints[1].join([json.dumps(card).encode(), endpoints[1].card()], NoRendezvous(), Deadline.after(JOIN_S))


def test_an_address_that_went_away_costs_only_itself(make: Callable[[], Transport]) -> None:
    with opened(make, ("203.0.113.9", ONE), (ONE,)) as endpoints:
        assert [each["host"] for each in json.loads(endpoints[0].card())["listeners"]] == [ONE]
        ways(endpoints)
    with pytest.raises(TransportUnavailable, match=r"203\.0\.113\.9 is not an address of this machine"):
        make().open(Seat("addresses", 1, 0, 2, TICKET, ("203.0.113.9",)))


def scoped() -> str:
    """A link-local IPv6 address of this machine, or ""."""
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            if entry.address.startswith("fe80") and "%" in entry.address and psutil.net_if_stats()[name].isup:
                return str(entry.address)
    return ""


@pytest.mark.parametrize("host", ["::1", "fe80"])
def test_ipv6_is_dialled_too_and_a_link_local_address_on_its_link(make: Callable[[], Transport], host: str) -> None:
    host = scoped() if host == "fe80" else host
    if not host:
        pytest.skip("this machine has no link-local IPv6 address")
    with opened(make, (host,), (host,)) as endpoints:
        assert host in ways(endpoints)[1]
