"""MLX's texts become errors of Nova's tree that say what helps."""

from __future__ import annotations

import pytest
from nova_transport_jaccl.errors import ADVICE, translate

from nova.errors import FormingFailed, GroupBroken, PeerLost, TransportUnavailable
from nova.wire import phases
from tests.unit.plugins.jaccl.machines import RECORDED, recorded_only

FORMING = [
    ("[jaccl] Could not find device rdma_en2 (0 available)", "no RDMA device any more"),
    ("[jaccl] Could not find device rdma_en2 (3 available)", "the cable was moved"),
    ("[jaccl] Could not open device rdma_en2", "restart this Mac"),
    ("[jaccl] No IPv4-mapped GID for this device. Thunderbolt RDMA ports ...", "give it one of its own"),
    ("[jaccl] Couldn't allocate protection domain", "protection domains are used up"),
    ("[jaccl] Creating the queue pair failed with 'Resource busy (16)'.", "queue pairs are used up"),
    ("[jaccl] Changing queue pair to INIT failed with errno 16", "queue pairs are used up"),
    ("[jaccl] Couldn't create queue pair", "queue pairs are used up"),
    ("[jaccl] Couldn't create completion queue", "queue pairs are used up"),
    ("[jaccl] Register memory region failed", "restart this Mac"),
    ("[jaccl] Changing queue pair to RTR failed with errno 22", "bridge"),
    ("[jaccl] Changing queue pair to RTR failed with errno 60", "not at one cable"),
    ("[jaccl] Changing queue pair to RTR failed with errno 96", "protection domains are used up"),
    ("[jaccl] Couldn't connect (error: 60)", "transport.hosts"),
    ("[jaccl] Couldn't connect (error: 61)", "does not listen"),
    ("[jaccl] Couldn't connect (error: 65)", "Local Network"),
    ("[jaccl] Couldn't bind socket (error: 49)", "EADDRNOTAVAIL"),
    ("Cannot initialize jaccl distributed backend.", "built without JACCL"),
    ("[jaccl] The configuration should define a valid mesh or a valid ring.", "report this"),
    ("[jaccl] You need to provide via environment variables a rank", "report this"),
    ("Cannot send to a singleton group", "group of one"),
    ("std::bad_cast", "report this"),
]


@pytest.mark.parametrize(("text", "words"), FORMING)
def test_what_mlx_says_while_forming_comes_with_what_helps(text: str, words: str) -> None:
    error = translate(RuntimeError(text), own=2, phase=phases.JOIN)
    assert isinstance(error, FormingFailed)
    assert (error.phase, error.transport, error.rank) == (phases.JOIN, "jaccl", 2)
    assert text in error.cause
    assert words in error.cause


def test_no_advice_is_dead() -> None:
    """Each is the first that matches one of the texts above or below."""
    texts = [text for text, _ in FORMING] + ["[jaccl] Recv failed with errno=60"]
    said = {translate(RuntimeError(text)).args[0].removeprefix(f"{text}: ") for text in texts}
    assert {advice for _, advice in ADVICE} <= said


@pytest.mark.parametrize("text", ["[jaccl] Recv failed with errno=2", "[jaccl] Send failed with error code 60"])
def test_a_link_lost_in_use_is_a_lost_peer(text: str) -> None:
    error = translate(RuntimeError(text), rank=1)
    assert isinstance(error, PeerLost)
    assert error.rank == 1
    assert "check the cable" in str(error)


@pytest.mark.parametrize("text", ["[jaccl] Send failed with error code 22", "[jaccl] what was never seen", ""])
def test_any_other_error_in_a_transfer_breaks_the_group_and_names_the_rank(text: str) -> None:
    error = translate(ValueError(text), rank=3)
    assert isinstance(error, GroupBroken)
    assert "rank 3" in str(error)


def test_without_a_place_it_is_this_machine_that_cannot() -> None:
    error = translate(RuntimeError("two\n lines  and " + "x" * 1000))
    assert isinstance(error, TransportUnavailable)
    assert str(error).startswith("two lines and xxx")
    assert len(str(error)) < 400


@recorded_only
def test_every_recorded_text_of_jaccl_has_advice() -> None:
    lines = (RECORDED / "error-strings" / "mlx-0.32.4-ring-jaccl.txt").read_text().splitlines()
    texts = [line for line in lines if line.startswith("[jaccl]") and "split" not in line]
    assert len(texts) >= 10
    assert [text for text in texts if str(translate(RuntimeError(text))) == text] == []
