"""Neighbours find each other, whoever else connects, and a reason is given for each address that leads nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from nova_transport_ring import RingConfig
from nova_transport_ring.links import Listener, Reached
from nova_transport_ring.meeting import Meeting

from nova.clock import Deadline
from nova.errors import FormingFailed
from nova.transport.api import Seat

LIMIT_S = 20.0
QUICK = RingConfig(dial_s=0.3, handshake_s=0.2)
PATIENT = RingConfig(dial_s=LIMIT_S)


def seat(rank: int, ticket: bytes = b"t" * 32, generation: int = 1) -> Seat:
    return Seat("test", generation, rank, 2, ticket)


def listening(host: str = "127.0.0.1") -> socket.socket:
    return socket.create_server((host, 0))


def at(listener: socket.socket) -> Listener:
    host, port = listener.getsockname()
    return Listener(host, "loopback/x", port)


class Side:
    """One rank's meeting, running in a thread until `end` or a failure."""

    def __init__(self, pool: ThreadPoolExecutor, own: Seat, listeners: Sequence[socket.socket],
                 targets: Sequence[Listener], config: RingConfig) -> None:  # fmt: skip
        self.reached = threading.Event()
        self._end = threading.Event()
        meeting = Meeting(own, config, {1 - own.rank: targets})
        self.result: Future[Reached] = pool.submit(
            lambda: asyncio.run(meeting.run(listeners, self._exchange, Deadline.after(LIMIT_S)))
        )

    def end(self) -> Reached:
        self._end.set()
        return self.result.result(LIMIT_S)

    def _exchange(self, reached: Reached) -> Reached:
        self.reached.set()
        self._end.wait(LIMIT_S)
        return reached


Start = Callable[..., Side]


@contextmanager
def sides() -> Iterator[Start]:
    with ThreadPoolExecutor(4) as pool, ExitStack() as undo:

        def start(own: Seat, listener: socket.socket, *targets: Listener, config: RingConfig = PATIENT) -> Side:
            side = Side(pool, own, [listener], targets, config)
            undo.callback(side._end.set)
            return side

        yield start


def test_two_ranks_reach_each_other() -> None:
    a, b = listening(), listening("127.0.0.2")
    with sides() as start:
        ends = start(seat(0), a, at(b)), start(seat(1), b, at(a))
        assert [end.reached.wait(LIMIT_S) for end in ends] == [True, True]
        assert ends[0].end() == {1: ["127.0.0.2"]}
        assert ends[1].end() == {0: ["127.0.0.1"]}
    assert a.fileno() == b.fileno() == -1  # closed: MLX can take the ports


def test_a_rank_is_reached_also_when_it_comes_later() -> None:
    a, b = listening(), listening()
    with sides() as start:
        first = start(seat(0), a, at(b))
        assert not first.reached.wait(0.1)
        second = start(seat(1), b, at(a))
        assert first.reached.wait(LIMIT_S)
        assert second.reached.wait(LIMIT_S)


def test_an_address_that_leads_nowhere_is_left_out_when_another_leads_to_the_peer() -> None:
    a, b = listening(), listening()
    with listening() as gone:
        nowhere = at(gone)
    with sides() as start:
        first, second = start(seat(0), a, nowhere, at(b)), start(seat(1), b, at(a))
        assert first.reached.wait(LIMIT_S)
        assert second.reached.wait(LIMIT_S)
        assert first.end() == {1: ["127.0.0.1"]}


def failure(own: Seat, *targets: Listener, config: RingConfig = QUICK) -> FormingFailed:
    with sides() as start:
        side = start(own, listening(), *targets, config=config)
        with pytest.raises(FormingFailed) as caught:
            side.result.result(LIMIT_S)
    assert caught.value.rank == own.rank
    return caught.value


def test_a_refused_connection_names_rank_address_and_reason() -> None:
    with listening() as gone:
        nowhere = at(gone)
    assert f"rank 1 cannot be reached: {nowhere}: connection refused" in str(failure(seat(0), nowhere))


def test_a_peer_that_accepts_and_stays_silent_is_said_to_be_stuck() -> None:
    with listening() as silent:
        assert "its process is stopped or stuck" in str(failure(seat(0), at(silent)))


def test_no_answer_at_all_is_said_to_be_a_firewall_or_a_route() -> None:
    with listening() as deaf, ExitStack() as undo:
        deaf.listen(0)
        while True:  # fill its queue: what comes then is dropped, as by a firewall
            one = undo.enter_context(socket.socket())
            one.settimeout(0.2)
            try:
                one.connect(deaf.getsockname())
            except TimeoutError:
                break
        assert "no answer in 0.3 s: a firewall" in str(failure(seat(0), at(deaf)))


def test_nodes_without_a_common_network_are_told_so() -> None:
    assert "the two nodes share no IPv4 network" in str(failure(seat(0)))


@pytest.mark.parametrize("other", [seat(1, b"x" * 32), seat(1, generation=2)])
def test_a_listener_without_this_generation_s_ticket_is_a_stranger(other: Seat) -> None:
    a, b = listening(), listening()
    with sides() as start:
        first, second = start(seat(0), a, at(b), config=QUICK), start(other, b, at(a), config=QUICK)
        failures = [side.result.exception(LIMIT_S) for side in (first, second)]
    assert all(isinstance(failure, FormingFailed) for failure in failures)
    # Whoever sees it first closes its listener, and the other may only see that.
    assert any("does not hold this group's ticket" in str(failure) for failure in failures)


def test_whoever_closes_every_connection_is_dialled_again_until_the_limit() -> None:
    with listening() as listener:
        listener.settimeout(LIMIT_S)
        counted: list[int] = []

        def slam() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()
                    counted.append(1)

        thread = threading.Thread(target=slam)
        thread.start()
        assert "it closed every connection" in str(failure(seat(0), at(listener)))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT_S)
        assert len(counted) > 1


def test_strangers_silent_and_talkative_do_not_keep_a_neighbour_out() -> None:
    a, b = listening(), listening()
    config = RingConfig(dial_s=LIMIT_S, handshake_s=LIMIT_S, candidates=4)
    with sides() as start, ExitStack() as undo:
        first = start(seat(0), a, at(b), config=config)
        strangers = [undo.enter_context(socket.create_connection(a.getsockname(), LIMIT_S)) for _ in range(40)]
        for stranger in strangers[::2]:
            stranger.send(b"GET / HTTP/1.1\r\n" * 8)
        second = start(seat(1), b, at(a), config=config)
        assert first.reached.wait(LIMIT_S)
        assert second.reached.wait(LIMIT_S)
        first.end()
        for stranger in strangers:  # none of their connections outlives the meeting
            stranger.settimeout(LIMIT_S)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(1) == b""


def test_a_silent_stranger_is_dropped_after_its_time() -> None:
    a, b = listening(), listening()
    with sides() as start:
        start(seat(0), a, at(b), config=RingConfig(dial_s=LIMIT_S, handshake_s=0.1))
        with socket.create_connection(a.getsockname(), LIMIT_S) as stranger:
            assert stranger.recv(1) == b""
        start(seat(1), b, at(a))
