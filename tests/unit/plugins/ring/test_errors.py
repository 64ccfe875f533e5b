"""MLX's texts and a dial's errno, as a person gets to read them. The texts are as MLX 0.32.4 writes them."""

from __future__ import annotations

import errno
import os

import pytest
from nova_transport_ring.errors import MAX_TEXT, translate, unanswered, undialled

from nova.errors import FormingFailed, GroupBroken, PeerLost, TransportUnavailable


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"[ring] Couldn't bind socket (error: {errno.EADDRINUSE})", "another program took the port"),
        (f"[ring] Couldn't connect (error: {errno.ECONNREFUSED})", "its process ended, or the network changed"),
        (f"[ring] Accept failed (error: {errno.EINTR})", "a signal interrupted"),
        ("[ring] Rank cannot be larger than the size of the group", "report this"),
        ("Can't parse address [::1]:17102", "report this"),
    ],
)
def test_an_error_while_forming_keeps_mlx_s_text_and_says_what_helps(text: str, advice: str) -> None:
    error = translate(RuntimeError(text), phase="join", own=2)
    assert isinstance(error, FormingFailed)
    assert (error.rank, error.transport, error.phase) == (2, "ring", "join")
    assert text in str(error)
    assert advice in str(error)


def test_a_number_gets_its_meaning() -> None:
    error = translate(RuntimeError(f"[ring] Couldn't connect (error: {errno.ECONNREFUSED})"), phase="join")
    assert os.strerror(errno.ECONNREFUSED) in str(error)


def test_a_lost_connection_is_a_lost_peer() -> None:
    error = translate(RuntimeError("[ring] connection to a peer was lost"), rank=3)
    assert isinstance(error, PeerLost)
    assert error.rank == 3


def test_any_other_error_of_a_transfer_breaks_the_group() -> None:
    error = translate(RuntimeError("[ring] sum_scatter not supported."), rank=1)
    assert isinstance(error, GroupBroken)
    assert "rank 1" in str(error)


def test_an_error_at_opening_makes_the_transport_unavailable() -> None:
    assert isinstance(translate(OSError(errno.EADDRNOTAVAIL, "no such address")), TransportUnavailable)


def test_a_flood_of_text_is_cut_and_kept_to_one_line() -> None:
    assert len(str(translate(RuntimeError("x\n" * 10_000)))) <= MAX_TEXT
    assert "\n" not in str(translate(RuntimeError("a\nb")))


def test_a_refused_connection_says_that_the_engine_has_ended() -> None:
    assert "its engine has ended" in undialled(errno.ECONNREFUSED, 0.1)


def test_other_errors_of_a_dial_keep_the_system_s_words() -> None:
    assert os.strerror(errno.ENETUNREACH) in undialled(errno.ENETUNREACH, 0.1)


def test_silence_of_a_link_local_address_says_that_mlx_cannot_choose_the_interface() -> None:
    assert "169.254" in unanswered("169.254.3.4", 5.0)
    assert "169.254" not in unanswered("192.168.1.4", 5.0)
    assert "5.0 s" in unanswered("192.168.1.4", 5.0)
