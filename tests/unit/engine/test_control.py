"""The all-gather that plugins are lent has limits, and an order to stop ends it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nova.clock import Deadline
from nova.engine.control import MAX_BLOB_BYTES, MAX_ROUNDS, ControlLine, Transfers
from nova.errors import FormingFailed
from nova.transport.api import MAX_CARD_BYTES
from nova.wire.codec import MAX_BODY_BYTES, encode
from nova.wire.messages import Gathered, StopEngine
from nova.wire.values import EngineKey

KEY = EngineKey("main", 1, 1)
LONG_S = 10.0
MOST_RANKS = 16


@pytest.fixture
def line(tmp_path: Path) -> Iterator[ControlLine]:
    """A line whose thread does not run: what would arrive is put in by the test."""
    line = ControlLine(f"ipc://{tmp_path}/engines", b"E", 0.5)
    yield line
    line._socket.close(0)
    line._context.term()
    line._waker.close()
    line._woken.close()


def test_the_blobs_of_the_round_that_was_asked_for_are_the_answer(line: ControlLine) -> None:
    line._gathered.put(Gathered(KEY, 1, [b"old", b"old"]))
    line._gathered.put(Gathered(KEY, 2, [b"a", b"b"]))
    assert line.all_gather(KEY, 2, b"b", Deadline.after(LONG_S)) == [b"a", b"b"]


def test_a_round_that_stays_incomplete_ends_at_the_deadline(line: ControlLine) -> None:
    with pytest.raises(FormingFailed, match="round 1 is incomplete"):
        line.all_gather(KEY, 1, b"", Deadline.after(0.01))


def test_an_order_to_stop_ends_the_wait_for_the_others(line: ControlLine) -> None:
    line._gathered.put(StopEngine(KEY, "rank 0 failed"))
    with pytest.raises(FormingFailed, match="at rank 1: told to stop: rank 0 failed"):
        line.all_gather(KEY, 1, b"", Deadline.after(LONG_S))


@pytest.mark.parametrize(("round_", "size"), [(MAX_ROUNDS + 1, 0), (1, MAX_BLOB_BYTES + 1), (1, 1 << 30)])
def test_endless_rounds_and_huge_blobs_are_refused_before_anything_is_sent(
    line: ControlLine, round_: int, size: int
) -> None:
    with pytest.raises(FormingFailed, match=f"round {round_} with {size} bytes; the limits are"):
        line.all_gather(KEY, round_, bytes(size), Deadline.after(LONG_S))
    assert line._outbox.empty()


def test_two_cards_fit_into_a_blob_and_the_blobs_of_all_ranks_into_a_message() -> None:
    assert 2 * MAX_CARD_BYTES + 100 < MAX_BLOB_BYTES
    _, body = encode(Gathered(KEY, 1, [bytes(MAX_BLOB_BYTES)] * MOST_RANKS), 1)
    assert len(body) < MAX_BODY_BYTES


def test_the_longest_call_of_the_transport_is_reported_whichever_thread_it_is_in() -> None:
    assert Transfers().longest_ms(10.0) == 0
    assert Transfers(sending_since=9.0).longest_ms(10.0) == 1000
    assert Transfers(sending_since=9.5, receiving_since=8.0).longest_ms(10.0) == 2000
