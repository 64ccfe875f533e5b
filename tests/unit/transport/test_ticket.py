from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.transport.api import Seat
from nova.transport.ticket import WELCOME, Admitted, Handshake, Stranger, admit, greet, proof

LOW, HIGH = (Seat("g", 7, rank, 3, b"secret" * 5) for rank in (0, 2))


def begin(steps: Handshake) -> tuple[bytes, int]:
    return next(steps)


def run(dialler: Handshake, listener: Handshake) -> list[bytes]:
    """Both sides to the end; what the dialler said."""
    hello, _ = begin(dialler)
    begin(listener)
    challenge, _ = listener.send(hello)
    stamp, _ = dialler.send(challenge)
    welcome, _ = listener.send(stamp)
    for steps, last in ((dialler, welcome), (listener, b"")):
        with pytest.raises(StopIteration):
            steps.send(last)
    return [hello, stamp]


def test_both_ends_learn_who_the_other_is() -> None:
    dialler, listener = greet(HIGH, 0, lane=1), admit(LOW, {1, 2}, lanes=2)
    hello, _ = begin(dialler)
    begin(listener)
    stamp, wanted = dialler.send(listener.send(hello)[0])
    assert wanted == len(WELCOME)
    assert listener.send(stamp) == (WELCOME, 0)
    with pytest.raises(StopIteration) as heard:
        listener.send(b"")
    with pytest.raises(StopIteration) as greeted:
        dialler.send(WELCOME)
    assert (heard.value.value, greeted.value.value) == (Admitted(2, 1), Admitted(0, 1))


def test_a_replayed_handshake_is_refused() -> None:
    hello, stamp = run(greet(HIGH, 0), admit(LOW, {2}))
    again = admit(LOW, {2})
    begin(again)
    again.send(hello)
    with pytest.raises(Stranger, match="does not hold"):
        again.send(stamp)


def test_a_listeners_proof_sent_back_to_it_is_refused() -> None:
    listener = admit(LOW, {2})
    begin(listener)
    challenge, wanted = listener.send(begin(greet(HIGH, 0))[0])
    with pytest.raises(Stranger, match="does not hold"):
        listener.send(challenge[-wanted:])


@pytest.mark.parametrize(
    "seat",
    [replace(HIGH, ticket=b"other"), replace(HIGH, group="h"), replace(HIGH, generation=8)],
    ids=["ticket", "group", "generation"],
)
def test_a_dialler_and_a_listener_of_different_groups_refuse_each_other(seat: Seat) -> None:
    dialler, listener = greet(seat, 0), admit(LOW, {2})
    hello, _ = begin(dialler)
    begin(listener)
    challenge, wanted = listener.send(hello)
    with pytest.raises(Stranger, match="whoever listens for rank 0"):
        dialler.send(challenge)
    with pytest.raises(Stranger, match="rank 2 and does not hold"):
        listener.send(proof(seat, b"dialler")[:wanted])


@pytest.mark.parametrize(("awaited", "lanes", "lane"), [({1}, 1, 0), (set(), 1, 0), ({2}, 1, 1)])
def test_a_rank_or_lane_that_is_not_awaited_is_refused(awaited: set[int], lanes: int, lane: int) -> None:
    listener = admit(LOW, awaited, lanes)
    begin(listener)
    with pytest.raises(Stranger, match="not awaited"):
        listener.send(begin(greet(HIGH, 0, lane))[0])


@given(st.data())
def test_rubbish_is_a_stranger_whatever_it_is(data: st.DataObject) -> None:
    """Also rubbish that begins as a true hello does."""
    listener = admit(LOW, {1, 2})
    _, wanted = begin(listener)
    hello = begin(greet(HIGH, 0))[0]
    kept = data.draw(st.integers(0, wanted - 1))
    rubbish = hello[:kept] + data.draw(st.binary(min_size=wanted - kept, max_size=wanted - kept))
    stamp = data.draw(st.binary(min_size=32, max_size=32))
    with pytest.raises(Stranger):  # noqa: PT012  either of the two is where it ends
        listener.send(rubbish)
        listener.send(stamp)


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_proofs_of_different_fields_differ(left: list[bytes], right: list[bytes]) -> None:
    assert (proof(LOW, *left) == proof(LOW, *right)) == (left == right)
