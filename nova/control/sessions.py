"""The coordinator's table of sessions. Sans-I/O: frames and a clock reading in, events out.

Routing ids are libzmq's own choice, one per connection, and mean nothing: a peer's name comes from its CURVE key by
way of ZAP. Names as routing ids would let any admitted peer claim another's, and would need ROUTER_HANDOVER for a
node that is back after a power cut, which hands the routing id to whoever asks for it. Here such a node has a new
routing id and the same key, and its new session supersedes the old one.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from itertools import count

from nova.config.schema import Control
from nova.control.link import Link, Oversized, Replayed, read
from nova.control.liveness import Pulse
from nova.control.session import Dropped, Event, Joined, Left, Received, Reply, Session, SessionId
from nova.errors import NodeLost, ProtocolError
from nova.wire import messages as m
from nova.wire import requests as r
from nova.wire.codec import Frames

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_REMEMBERED = 256

SAYS: dict[str, frozenset[type[m.Message]]] = {
    "worker": frozenset({m.EngineState, m.EngineExited, m.Gather, m.Step, m.Pooled, m.Offers, m.Measured}),
    "client": frozenset(
        {r.Generate, r.Abandon, r.StatusQuery, r.ExplainQuery, r.CheckQuery, r.TraceQuery, r.PlanQuery}
    ),
}
"""What each role may say once its session stands, besides Heartbeat and Goodbye."""

_CAUSES: dict[type[ProtocolError], str] = {Oversized: "oversized", Replayed: "replayed", ProtocolError: "malformed"}


class Sessions:
    """`counters` has joined, left, superseded, refused, received, gaps, and each cause of a drop."""

    def __init__(self, coordinator: str, control: Control, limit: int = 1024) -> None:
        self._coordinator = coordinator
        self._control = control
        self._limit = limit
        self._ids = count(1)
        self._by_route: dict[bytes, Session] = {}
        self._by_id: dict[int, Session] = {}
        self._departed: OrderedDict[int, str] = OrderedDict()
        self._drops: Counter[tuple[str, str]] = Counter()
        self.counters: Counter[str] = Counter()

    def all(self) -> list[Session]:
        """The sessions that stand, oldest first."""
        return list(self._by_id.values())

    def receive(self, routing_id: bytes, user: str, frames: Frames, now: float) -> list[Event]:
        """Frames came from a connection that ZAP admitted as `user`. Whatever they hold, nothing is raised."""
        session = self._by_route.get(routing_id)
        if session is not None and session.user != user:
            # A peer may choose its routing id, and choose that of a connection that has just gone.
            return self._drop("foreign", user, f"came by the routing id of {session.name!r}")
        if session is not None:
            session.pulse.liveness.heard(now)
        try:
            message, sequence = read(frames)
            if session is None:
                return self._stranger(routing_id, user, message, sequence, now)
            self._admit(session, sequence)
        except ProtocolError as error:
            return self._drop(_CAUSES[type(error)], user, str(error))
        return self._from_peer(session, message, now)

    def reply(self, session_id: int, message: m.Message) -> Reply:
        """A message of ours to a session. Raises NodeLost, saying why, if it is over."""
        session = self._by_id.get(session_id)
        if session is None:
            raise NodeLost(self._departed.get(session_id, f"session {session_id} is over"))
        return Reply(session.routing_id, message, session)

    def tick(self, now: float) -> list[Event]:
        """To be called every `liveness.pause`: who is dead, and whose heartbeat is due."""
        events: list[Event] = []
        for session in self.all():
            if session.pulse.liveness.dead(now):
                # It may live, and hear this before its own clock runs out.
                events.append(Reply(session.routing_id, m.Refused("you were silent for too long", retry=True)))
                events += self._end(session, f"silent for {session.age(now):.1f} s")
            elif (beat := session.pulse.due(now)) is not None:
                events.append(Reply(session.routing_id, beat, session))
        return events

    def gone(self, session_id: int, why: str) -> list[Event]:
        """The rim found that a session's connection is gone."""
        session = self._by_id.get(session_id)
        return [] if session is None else self._end(session, why)

    def close(self, reason: str) -> list[Event]:
        """Says goodbye to everybody."""
        events: list[Event] = []
        for session in self.all():
            events.append(Reply(session.routing_id, m.Goodbye(reason), session))
            events += self._end(session, reason)
        return events

    def _admit(self, session: Session, sequence: int) -> None:
        before = session.link.gaps
        session.link.admit(sequence)
        self.counters["gaps"] += session.link.gaps - before

    def _from_peer(self, session: Session, message: m.Message, now: float) -> list[Event]:
        if isinstance(message, m.Heartbeat):
            session.pulse.heartbeat(message, now)
            return []
        if isinstance(message, m.Goodbye):
            return self._end(session, f"said goodbye: {message.reason}")
        if type(message) not in SAYS[session.role]:
            return self._drop("forbidden", session.user, f"{type(message).__name__} from a {session.role} in session")
        self.counters["received"] += 1
        return [Received(session, message)]

    def _stranger(self, routing_id: bytes, user: str, message: m.Message, sequence: int, now: float) -> list[Event]:
        if isinstance(message, m.Goodbye):
            return []
        if not isinstance(message, m.Hello):
            # The peer had a session with the coordinator before this one, or was taken for dead: it shall come again.
            dropped = self._drop("unknown", user, f"{type(message).__name__} before Hello")
            return [Reply(routing_id, m.Refused("no session here: say Hello", retry=True)), *dropped]
        if why := self._unwelcome(user, message):
            self.counters["refused"] += 1
            return [Reply(routing_id, m.Refused(why, retry=False)), *self._drop("unwelcome", user, why)]
        former = self._worker(message.name) if message.role == "worker" else None
        if former is None and len(self._by_id) >= self._limit:
            self.counters["refused"] += 1
            why = f"the coordinator has {self._limit} sessions, its limit"
            return [Reply(routing_id, m.Refused(why, retry=True)), *self._drop("crowded", user, why)]
        link = Link()
        link.admit(sequence)
        events = [] if former is None else self._supersede(former)
        return events + self._join(routing_id, user, message, link, now)

    def _unwelcome(self, user: str, hello: m.Hello) -> str | None:
        if not user or not _NAME.fullmatch(hello.name):
            return f"{hello.name[:80]!r} is no name, or its key is no longer trusted"
        if hello.role not in SAYS:
            return f"role {hello.role[:80]!r} is unknown: a peer is one of {', '.join(sorted(SAYS))}"
        if hello.role == "worker" and hello.name != user:
            return f"your key is trusted here as {user!r}, not as {hello.name!r}: set the node's name, or trust it anew"
        return None

    def _worker(self, name: str) -> Session | None:
        return next((s for s in self._by_id.values() if s.role == "worker" and s.name == name), None)

    def _supersede(self, former: Session) -> list[Event]:
        self.counters["superseded"] += 1
        why = f"a newer connection of {former.name!r} took its place"
        # Without retry, or two daemons with one key would supersede each other for ever.
        return [Reply(former.routing_id, m.Refused(why, retry=False)), *self._end(former, why)]

    def _join(self, routing_id: bytes, user: str, hello: m.Hello, link: Link, now: float) -> list[Event]:
        heartbeat_s, dead_after_s = self._control.heartbeat_s, self._control.dead_after_s
        pulse = Pulse(heartbeat_s, dead_after_s, now)
        session = Session(SessionId(next(self._ids)), routing_id, user, hello, link, pulse)
        self._by_route[routing_id] = self._by_id[session.id] = session
        self.counters["joined"] += 1
        welcome = m.Welcome(self._coordinator, heartbeat_s, dead_after_s)
        return [Reply(routing_id, welcome, session), Joined(session)]

    def _end(self, session: Session, why: str) -> list[Event]:
        del self._by_id[session.id], self._by_route[session.routing_id]
        self._departed[session.id] = f"{session.role} {session.name!r} is gone: {why}"
        if len(self._departed) > _REMEMBERED:
            self._departed.popitem(last=False)
        self.counters["left"] += 1
        return [Left(session, why)]

    def _drop(self, cause: str, user: str, detail: str) -> list[Event]:
        self.counters[cause] += 1
        self._drops[user, cause] += 1
        number = self._drops[user, cause]
        return [Dropped(cause, user, detail, number)] if number & (number - 1) == 0 else []
