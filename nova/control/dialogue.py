"""One session as a worker or client sees it: Hello, Welcome, traffic, end. Sans-I/O.

A dialogue is over once, for one reason, and is then thrown away with its connection: the next session is another
dialogue over a new socket, so that nothing queued for the old one can reach the new.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nova.config.schema import Control
from nova.control.link import Link, Oversized, Replayed, read
from nova.control.liveness import Pulse
from nova.errors import ControlError, NodeLost, PeerRefused, ProtocolError
from nova.wire import messages as m
from nova.wire.codec import Frames


@dataclass(frozen=True)
class Welcomed:
    welcome: m.Welcome


@dataclass(frozen=True)
class Received:
    message: m.Message


@dataclass(frozen=True)
class Say:
    """Frames to be sent."""

    frames: Frames


@dataclass(frozen=True)
class Over:
    """The session is over, or never stood. `final` says that a further attempt would be refused as well."""

    error: ControlError
    final: bool = False


Event = Welcomed | Received | Say | Over

_CAUSES: dict[type[ProtocolError], str] = {Oversized: "oversized", Replayed: "replayed", ProtocolError: "malformed"}
_NOT_FOR_US = (m.Hello, m.Welcome)


class Dialogue:
    """`address` names the coordinator in reasons; `counters` is the owner's, and outlives the dialogue.
    `welcome` is None until the session stands."""

    def __init__(self, hello: m.Hello, address: str, control: Control, counters: Counter[str], now: float) -> None:
        self._hello = hello
        self._address = address
        self._control = control
        self._counters = counters
        self._link = Link()
        self._answer_by = now + control.dead_after_s
        self._pulse: Pulse | None = None
        self._trouble = ""
        self.welcome: m.Welcome | None = None

    @property
    def stands(self) -> bool:
        return self._pulse is not None

    @property
    def pulse(self) -> Pulse | None:
        """Heartbeats and clock of the session; None until it stands."""
        return self._pulse

    def hello(self) -> Frames:
        """The first frames to send."""
        return self._link.encode(self._hello)

    def encode(self, message: m.Message) -> Frames:
        """Numbers a message. Raises ProtocolError if it is too large."""
        return self._link.encode(message)

    def receive(self, frames: Frames, now: float) -> list[Event]:
        """Frames came from the coordinator. Whatever they hold, nothing is raised."""
        if self._pulse is not None:
            self._pulse.liveness.heard(now)
        try:
            message, sequence = read(frames)
            if isinstance(message, m.Refused):
                return [Over(PeerRefused(f"coordinator at {self._address}: {message.reason}"), not message.retry)]
            before = self._link.gaps
            self._link.admit(sequence)
            self._counters["gaps"] += self._link.gaps - before
        except ProtocolError as error:
            self._counters[_CAUSES[type(error)]] += 1
            self._trouble = f"; it sent what is no message: {error}"
            return []
        if self._pulse is None:
            return self._welcomed(message, now)
        return self._standing(message, self._pulse, now)

    def tick(self, now: float) -> list[Event]:
        """To be called every `liveness.pause`."""
        if self._pulse is None:
            if now < self._answer_by:
                return []
            waited = self._control.dead_after_s
            return [self._lost(f"does not answer our Hello within {waited:g} s{self._trouble}")]
        if self._pulse.liveness.dead(now):
            silence = max(0.0, now - self._pulse.liveness.last_heard)
            return [self._lost(f"is silent for {silence:.1f} s: dead, stopped or cut off")]
        beat = self._pulse.due(now)
        return [] if beat is None else [Say(self._link.encode(beat))]

    def _welcomed(self, message: m.Message, now: float) -> list[Event]:
        if not isinstance(message, m.Welcome):
            self._counters["forbidden"] += 1
            return []
        if not 0 < message.heartbeat_s < message.dead_after_s:
            self._counters["forbidden"] += 1
            self._trouble = f"; its Welcome makes no sense: {message}"
            return []
        self._pulse = Pulse(message.heartbeat_s, message.dead_after_s, now)
        self.welcome = message
        return [Welcomed(message)]

    def _standing(self, message: m.Message, pulse: Pulse, now: float) -> list[Event]:
        if isinstance(message, m.Heartbeat):
            pulse.heartbeat(message, now)
            return []
        if isinstance(message, m.Goodbye):
            return [self._lost(f"said goodbye: {message.reason}")]
        if isinstance(message, _NOT_FOR_US):
            self._counters["forbidden"] += 1
            return []
        self._counters["received"] += 1
        return [Received(message)]

    def _lost(self, what: str) -> Over:
        return Over(NodeLost(f"coordinator at {self._address} {what}"))
