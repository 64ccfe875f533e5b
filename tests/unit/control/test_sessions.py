from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nova.clock import FakeClock
from nova.config.schema import Control
from nova.control.session import Dropped, Event, Joined, Left, Received, Reply, Session
from nova.control.sessions import Sessions
from nova.errors import NodeLost
from nova.wire.codec import MAX_BODY_BYTES, decode, encode
from nova.wire.messages import Cancel, EngineState, Goodbye, Heartbeat, Hello, Message, Refused, Welcome
from nova.wire.requests import Abandon, StatusQuery
from nova.wire.values import EngineKey

CONTROL = Control(heartbeat_s=0.5, dead_after_s=2.0)
WORK = EngineState(EngineKey("g", 1, 0), "x")


class Peer:
    """A well-behaved peer of a table: numbers its frames."""

    def __init__(self, table: Sessions, clock: FakeClock, route: bytes, user: str) -> None:
        self.table, self.clock, self.route, self.user, self.sequence = table, clock, route, user, 0

    def says(self, message: Message, sequence: int | None = None) -> list[Event]:
        self.sequence = self.sequence + 1 if sequence is None else sequence
        return self.frames(encode(message, self.sequence))

    def frames(self, frames: list[bytes]) -> list[Event]:
        return self.table.receive(self.route, self.user, frames, self.clock())

    def joins(self, role: str = "worker") -> Session:
        (joined,) = [e for e in self.says(Hello(self.user, role, "test")) if isinstance(e, Joined)]
        return joined.session


def _table(limit: int = 1024) -> tuple[Sessions, FakeClock]:
    return Sessions("coordinator", CONTROL, limit), FakeClock(100.0)


def _answers(events: list[Event]) -> list[Message]:
    return [e.message for e in events if isinstance(e, Reply)]


def test_hello_is_answered_with_welcome_before_anybody_is_told() -> None:
    table, clock = _table()
    welcome, joined = Peer(table, clock, b"1", "a").says(Hello("a", "worker", "test"))
    assert isinstance(welcome, Reply)
    assert welcome.message == Welcome("coordinator", 0.5, 2.0)
    assert isinstance(joined, Joined)


def test_a_worker_cannot_take_the_name_of_another_key() -> None:
    table, clock = _table()
    (refused,) = _answers(Peer(table, clock, b"1", "a").says(Hello("b", "worker", "test")))
    assert isinstance(refused, Refused)
    assert not refused.retry
    assert "'a'" in refused.reason
    assert table.all() == []


@pytest.mark.parametrize(
    ("user", "hello"),
    [
        ("", Hello("", "worker", "test")),
        ("a", Hello("a", "king", "test")),
        ("a", Hello("a\n", "client", "test")),
    ],
)
def test_an_unwelcome_hello_is_refused_for_good(user: str, hello: Hello) -> None:
    table, clock = _table()
    (refused,) = _answers(Peer(table, clock, b"1", user).says(hello))
    assert isinstance(refused, Refused)
    assert not refused.retry
    assert table.counters["refused"] == 1


def test_the_coordinators_own_node_is_admitted_like_any_other() -> None:
    table, clock = _table()
    assert Peer(table, clock, b"1", "coordinator").joins().name == "coordinator"


def test_an_unknown_peer_is_told_to_say_hello_again() -> None:
    table, clock = _table()
    (refused,) = _answers(Peer(table, clock, b"1", "a").says(Heartbeat(1)))
    assert isinstance(refused, Refused)
    assert refused.retry
    assert table.counters["unknown"] == 1


def test_a_replayed_frame_is_counted_and_dropped() -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    peer.joins()
    frames = encode(WORK, 5)
    assert [type(e) for e in peer.frames(frames)] == [Received]
    for again in (frames, encode(WORK, 4), encode(WORK, 0)):
        assert not [e for e in peer.frames(again) if not isinstance(e, Dropped)]
    assert table.counters["replayed"] == 3
    assert table.counters["gaps"] == 3


def test_a_replayed_hello_does_not_begin_anything() -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    session = peer.joins()
    peer.says(Hello("a", "worker", "test"), sequence=1)
    peer.says(Hello("a", "worker", "test"), sequence=9)
    assert table.all() == [session]
    assert (table.counters["replayed"], table.counters["forbidden"]) == (1, 1)


def test_each_role_says_only_what_is_its_own() -> None:
    table, clock = _table()
    worker, client = Peer(table, clock, b"1", "a"), Peer(table, clock, b"2", "b")
    worker.joins()
    client.joins("client")
    assert isinstance(worker.says(WORK)[0], Received)
    assert isinstance(client.says(StatusQuery("1"))[0], Received)
    assert isinstance(client.says(WORK)[0], Dropped)
    assert isinstance(worker.says(Abandon("1"))[0], Dropped)
    assert isinstance(worker.says(Cancel(EngineKey("g", 1, 0), 1), 99)[0], Dropped)
    assert table.counters["forbidden"] == 3


def test_a_worker_that_is_back_supersedes_its_old_session() -> None:
    table, clock = _table()
    old = Peer(table, clock, b"1", "a").joins()
    events = Peer(table, clock, b"2", "a").says(Hello("a", "worker", "test"))
    assert [type(e) for e in events] == [Reply, Left, Reply, Joined]
    farewell, left, _, joined = events
    assert isinstance(farewell, Reply)
    assert isinstance(farewell.message, Refused)
    assert not farewell.message.retry
    assert isinstance(left, Left)
    assert isinstance(joined, Joined)
    assert left.session is old
    assert table.all() == [joined.session]
    with pytest.raises(NodeLost, match="worker 'a' is gone: a newer connection"):
        table.reply(old.id, WORK)


def test_clients_with_one_key_do_not_supersede_each_other() -> None:
    table, clock = _table()
    for route in (b"1", b"2"):
        Peer(table, clock, route, "a").joins("client")
    assert len(table.all()) == 2


def test_a_routing_id_that_another_key_took_over_is_not_its_session() -> None:
    table, clock = _table()
    Peer(table, clock, b"1", "a").joins()
    thief = Peer(table, clock, b"1", "b")
    assert not [e for e in thief.says(WORK, 50) if not isinstance(e, Dropped)]
    assert table.counters["foreign"] == 1


def test_a_full_table_refuses_newcomers_but_not_the_return_of_a_worker() -> None:
    table, clock = _table(limit=1)
    Peer(table, clock, b"1", "a").joins()
    (refused,) = _answers(Peer(table, clock, b"2", "b").says(Hello("b", "worker", "test")))
    assert isinstance(refused, Refused)
    assert refused.retry
    assert Peer(table, clock, b"3", "a").joins().name == "a"


def test_goodbye_ends_a_session_at_once() -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    peer.joins()
    (left,) = peer.says(Goodbye("stopped"))
    assert isinstance(left, Left)
    assert left.why == "said goodbye: stopped"
    assert table.all() == []


def test_silence_ends_a_session_and_says_so_to_the_peer() -> None:
    table, clock = _table()
    session = Peer(table, clock, b"1", "a").joins()
    ended: list[Event] = []
    while not ended and clock() < 200:
        clock.advance(0.25)
        ended = [e for e in table.tick(clock()) if not (isinstance(e, Reply) and isinstance(e.message, Heartbeat))]
    refused, left = ended
    assert isinstance(refused, Reply)
    assert isinstance(left, Left)
    assert refused.message == Refused("you were silent for too long", True)
    assert left.session is session
    assert clock() == pytest.approx(102.0)


def test_malformed_and_oversized_frames_are_counted_apart_and_logged_sparingly() -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    peer.joins()
    logged = sum(len(peer.frames([b"junk", b"x"])) for _ in range(1000))
    logged += len(peer.frames([encode(WORK, 9)[0], bytes(MAX_BODY_BYTES + 1)]))
    assert (table.counters["malformed"], table.counters["oversized"], logged) == (1000, 1, 11)
    assert isinstance(peer.says(WORK)[0], Received)


@given(st.lists(st.lists(st.binary(max_size=40), max_size=4), max_size=30))
def test_whatever_the_bytes_nothing_is_raised(garbage: list[list[bytes]]) -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    for frames in garbage:
        peer.frames(frames)
    peer.joins()
    for frames in garbage:
        peer.frames(frames)
    assert isinstance(peer.says(WORK)[0], Received)


@given(st.integers(0, 11), st.integers(0, 255), st.integers(0, 200))
def test_a_damaged_frame_is_never_taken_for_another(at: int, byte: int, cut: int) -> None:
    table, clock = _table()
    peer = Peer(table, clock, b"1", "a")
    peer.joins()
    head, body = encode(WORK, 2)
    damaged = [head[:at] + bytes([byte]) + head[at + 1 :], body[:cut]]
    got = [e.message for e in peer.frames(damaged) if isinstance(e, Received)]
    assert got in ([], [WORK])


class SessionsMachine(RuleBasedStateMachine):
    """Three keys, several connections each, doing everything in any order; the table against simple truths."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.clock = _table(limit=4)
        self.peers = [Peer(self.table, self.clock, f"{u}{i}".encode(), u) for u in "abc" for i in range(2)]
        self.joined: Counter[int] = Counter()
        self.left: Counter[int] = Counter()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Joined):
                self.joined[event.session.id] += 1
            elif isinstance(event, Left):
                self.left[event.session.id] += 1
            elif isinstance(event, Received):
                assert self.joined[event.session.id] == 1, "heard of a session that nobody announced"
                assert not self.left[event.session.id]
            elif isinstance(event, Reply):
                decode(event.encode())

    @rule(which=st.integers(0, 5), role=st.sampled_from(["worker", "client"]), name=st.sampled_from("abc"))
    def hello(self, which: int, role: str, name: str) -> None:
        self._take(self.peers[which].says(Hello(name, role, "test")))

    @rule(which=st.integers(0, 5), message=st.sampled_from([WORK, StatusQuery("1"), Heartbeat(1), Goodbye("x")]))
    def message(self, which: int, message: Message) -> None:
        self._take(self.peers[which].says(message))

    @rule(which=st.integers(0, 5), back=st.integers(0, 3))
    def replay(self, which: int, back: int) -> None:
        peer = self.peers[which]
        before = self.table.counters["received"]
        self._take(self.table.receive(peer.route, peer.user, encode(WORK, max(0, peer.sequence - back)), self.clock()))
        if peer.sequence:
            assert self.table.counters["received"] == before

    @rule(which=st.integers(0, 5), frames=st.lists(st.binary(max_size=20), max_size=3))
    def garbage(self, which: int, frames: list[bytes]) -> None:
        self._take(self.peers[which].frames(frames))

    @rule(seconds=st.floats(0.01, 0.5))
    def time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self._take(self.table.tick(self.clock()))

    @rule(which=st.integers(0, 5))
    def unroutable(self, which: int) -> None:
        for session in self.table.all():
            if session.routing_id == self.peers[which].route:
                self._take(self.table.gone(session.id, "unroutable"))

    @rule()
    def close(self) -> None:
        self._take(self.table.close("stop"))
        assert self.table.all() == []

    @invariant()
    def who_joined_and_has_not_left_stands(self) -> None:
        assert set(self.joined.values()) <= {1}
        assert set(self.left.values()) <= {1}
        assert {s.id for s in self.table.all()} == set(self.joined) - set(self.left)

    @invariant()
    def no_worker_has_two_sessions_or_a_name_that_is_not_its_keys(self) -> None:
        workers = [s for s in self.table.all() if s.role == "worker"]
        assert len({s.name for s in workers}) == len(workers)
        assert all(s.name == s.user for s in workers)

    @invariant()
    def the_limit_holds_and_nobody_outlives_its_silence(self) -> None:
        assert len(self.table.all()) <= 4
        assert all(s.age(self.clock()) < CONTROL.dead_after_s + 0.51 for s in self.table.all())


SessionsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSessions = SessionsMachine.TestCase
