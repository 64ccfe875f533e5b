"""From cards to a group, and every way in which that fails: the reason, and what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from nova_transport_jaccl.backend import Factory, NativeGroup
from nova_transport_jaccl.endpoint import Card, JacclEndpoint
from nova_transport_jaccl.facts import Facts, Mlx
from nova_transport_jaccl.group import JacclGroup
from nova_transport_jaccl.ledger import Ledger

from nova.clock import Deadline
from nova.errors import FormingFailed, TransportUnavailable
from nova.transport.api import ArrayGroup, CollectiveGroup, Rendezvous
from nova.wire import phases
from tests.unit.plugins.jaccl.jaccl_like import EXCHANGES, Echo, JacclLike, seat
from tests.unit.plugins.jaccl.machines import cabled, mac, port

PAIR = [cabled(0, {1: 1}), cabled(1, {0: 1})]
BOOT_S = 1_790_000_000.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run" / "ledger.json", BOOT_S)


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, the device file goes and the environment is as it was."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    yield
    assert list(folder.iterdir()) == []
    assert {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"} == before


def cards(*machines: Facts) -> list[bytes]:
    return [msgspec.json.encode(Card(facts, f"192.0.2.{rank}", 500)) for rank, facts in enumerate(machines)]


def join(
    backend: JacclLike,
    ledger: Ledger,
    machines: list[Facts] = PAIR,
    rendezvous: Rendezvous | None = None,
    deadline_s: float = 10.0,
) -> JacclGroup:
    endpoint = JacclEndpoint(seat(0, len(machines)), machines[0], backend, ledger)
    group = endpoint.join(cards(*machines), rendezvous or Echo(len(machines)), Deadline.after(deadline_s))
    assert isinstance(group, JacclGroup)
    return group


def test_a_pair_forms(ledger: Ledger) -> None:
    backend, rendezvous = JacclLike(), Echo()
    group = join(backend, ledger, rendezvous=rendezvous)
    assert (group.rank, group.size) == (0, 2)
    assert isinstance(group, ArrayGroup)
    assert isinstance(group, CollectiveGroup)
    assert backend.calls == ["init", "devices", "barrier"]
    assert rendezvous.rounds == len(EXCHANGES)
    assert backend.matrix == [[None, "rdma_en1"], ["rdma_en1", None]]
    assert backend.environment["JACCL_COORDINATOR"] == "192.0.2.0:500"
    assert ledger.failed() == 0


def test_four_in_a_circle_form_a_ring(ledger: Ledger) -> None:
    backend = JacclLike()
    machines = [cabled(rank, {(rank + 1) % 4: 1, (rank - 1) % 4: 1}) for rank in range(4)]
    group = join(backend, ledger, machines)
    assert backend.environment["JACCL_RING"] == "1"
    with pytest.raises(ValueError, match="rank 0 has no cable to rank 2 in this ring"):
        group.recv_array((1,), None, 2, Deadline.after(1))


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        (JacclLike(fails={"devices": ValueError("Changing queue pair to RTR failed with errno 22")}), "bridge"),
        (JacclLike(fails={"devices": RuntimeError("Could not find device rdma_en1 (0 available)")}), "no RDMA device"),
        (JacclLike(fails={"barrier": RuntimeError("Recv failed with errno=60")}), "the link was lost"),
        (JacclLike(fails={"barrier": ValueError("Cannot send to a singleton group")}), "group of one"),
        (JacclLike(place=(0, 1)), "MLX says rank 0 of 1, expected 0 of 2"),
        (JacclLike(place=(0, 0)), "MLX says rank 0 of 0, expected 0 of 2"),
        (JacclLike(place=(1, 2)), "MLX says rank 1 of 2, expected 0 of 2"),
        (JacclLike(sums=[2, 2, 7, 2]), r"the first sum over 2 ranks is wrong: \[2, 7\]"),
        (JacclLike(sums=[]), "the first sum over 2 ranks is wrong"),
    ],
)
def test_a_start_that_fails_in_mlx_is_counted_and_says_what_helps(
    ledger: Ledger, backend: JacclLike, words: str
) -> None:
    with pytest.raises(FormingFailed, match=words) as failed:
        join(backend, ledger)
    assert (failed.value.phase, failed.value.transport, failed.value.rank) == (phases.JOIN, "jaccl", 0)
    assert ledger.failed() == 1


def test_the_count_stands_before_mlx_is_called(ledger: Ledger) -> None:
    class Looks(JacclLike):
        def init(self, factory: Factory | None) -> NativeGroup:
            assert ledger.failed() == 1
            return super().init(factory)

    join(Looks(), ledger)
    assert ledger.failed() == 0


class Broken(Echo):
    """Gives what `answers` says instead of every rank's blob."""

    def __init__(self, answers: list[bytes] | FormingFailed) -> None:
        super().__init__()
        self.answers = answers

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        if isinstance(self.answers, FormingFailed):
            raise self.answers
        return self.answers


def test_an_exchange_that_fails_passes_through_mlx_with_its_reason(ledger: Ledger) -> None:
    late = FormingFailed(phases.JOIN, "jaccl", 0, "rank 1 did not come in time")
    with pytest.raises(FormingFailed) as failed:
        join(JacclLike(), ledger, rendezvous=Broken(late))
    assert failed.value is late


@pytest.mark.parametrize(
    ("answers", "words"),
    [([bytes(4), bytes(3)], "rank 1 sent 3 bytes"), ([bytes(4)] * 3, "3 answers for 2 ranks")],
)
def test_a_wrong_exchange_never_reaches_mlx(ledger: Ledger, answers: list[bytes], words: str) -> None:
    with pytest.raises(FormingFailed, match=words):
        join(JacclLike(), ledger, rendezvous=Broken(answers))


def test_ranks_that_come_together_too_late_are_no_group(ledger: Ledger) -> None:
    with pytest.raises(FormingFailed, match="after the deadline"):
        join(JacclLike(), ledger, deadline_s=0.0)
    assert ledger.failed() == 0  # MLX came up, so nothing is lost


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (mac(mlx=Mlx("0.32.3", True, True)), "rank 1 has .*0.32.3"),
        (mac(macos="26.2"), "rank 1 has .*4 KiB"),
        (mac(mlx=Mlx("0.32.4", True, False)), "rank 1 has an MLX of another build"),
        (mac(port(1, "END-X", "END-Y")), "ranks 0 and 1 share no usable Thunderbolt 5 cable"),
    ],
)
def test_a_peer_that_does_not_fit_is_refused_before_mlx_is_touched(ledger: Ledger, other: Facts, words: str) -> None:
    backend = JacclLike()
    with pytest.raises(FormingFailed, match=words):
        join(backend, ledger, [PAIR[0], other])
    assert backend.calls == []
    assert ledger.failed() == 0


@pytest.mark.parametrize("card", [b"", b"{", b'{"facts": {}, "host": 3}', b" " * (64 * 1024 + 1)])
def test_a_malformed_card_is_refused_by_rank(ledger: Ledger, card: bytes) -> None:
    endpoint = JacclEndpoint(seat(), PAIR[0], JacclLike(), ledger)
    with pytest.raises(FormingFailed, match="the card of rank 1 is malformed"):
        endpoint.join([*cards(PAIR[0]), card], Echo(), Deadline.after(10))


def test_a_missing_card_is_refused(ledger: Ledger) -> None:
    endpoint = JacclEndpoint(seat(), PAIR[0], JacclLike(), ledger)
    with pytest.raises(FormingFailed, match="1 cards for 2 ranks"):
        endpoint.join(cards(PAIR[0]), Echo(), Deadline.after(10))


def test_a_process_that_sigterm_cannot_end_is_refused(ledger: Ledger) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with pytest.raises(FormingFailed, match="SIGTERM has a handler"):
            join(JacclLike(), ledger)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ledger.failed() == 0


def test_a_ledger_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FormingFailed, match="set NOVA_HOME"):
        join(JacclLike(), Ledger(tmp_path / "file" / "ledger.json", BOOT_S))


# --- where MLX cannot use our exchange --------------------------------------------------------------------------------

OLD = Mlx("0.31.2", jaccl=True, factory=False)


class Listens(JacclLike):
    """Binds the coordinator's address, as JACCL's own side channel does on rank 0."""

    def init(self, factory: Factory | None) -> NativeGroup:
        assert factory is None
        host, port = os.environ["JACCL_COORDINATOR"].rsplit(":", 1)
        with socket.create_server((host, int(port))):
            return super().init(factory)


def test_rank_0_keeps_a_port_for_jaccls_own_side_channel(ledger: Ledger) -> None:
    first, second = (msgspec.structs.replace(facts, mlx=OLD) for facts in PAIR)
    endpoint = JacclEndpoint(seat(), first, Listens(), ledger)
    card = msgspec.json.decode(endpoint.card(), type=Card)
    assert card.host == "127.0.0.1"
    with pytest.raises(OSError, match="in use"):
        socket.create_server((card.host, card.port), reuse_port=False).close()
    other = JacclEndpoint(seat(1), second, JacclLike(), ledger)
    assert msgspec.json.decode(other.card(), type=Card).port == 0
    endpoint.join([endpoint.card(), other.card()], Echo(), Deadline.after(10))


def test_an_endpoint_that_is_closed_frees_its_port(ledger: Ledger) -> None:
    endpoint = JacclEndpoint(seat(), msgspec.structs.replace(PAIR[0], mlx=OLD), JacclLike(), ledger)
    endpoint.close()
    endpoint.close()
    card = msgspec.json.decode(endpoint.card(), type=Card)
    socket.create_server((card.host, card.port)).close()


def test_only_jaccls_own_side_channel_needs_an_ipv4_address(ledger: Ledger) -> None:
    endpoint = JacclEndpoint(seat(0, 2, "::1", "127.0.0.1"), PAIR[0], JacclLike(), ledger)
    assert msgspec.json.decode(endpoint.card(), type=Card).host == "127.0.0.1"
    JacclEndpoint(seat(0, 2, "::1"), PAIR[0], JacclLike(), ledger).close()
    with pytest.raises(TransportUnavailable, match=r"IPv4 address in transport\.hosts"):
        JacclEndpoint(seat(0, 2, "::1"), msgspec.structs.replace(PAIR[0], mlx=OLD), JacclLike(), ledger)
