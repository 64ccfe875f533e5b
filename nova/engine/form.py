"""Forming, as one engine goes through it: open, exchange cards, join at one go, verify.

The exchange of cards is an all-gather over the control plane: it ends for all ranks at the same moment, and that is
the agreed "go" without which a rank would wait for one that never starts. A transport that moves arrays only is
formed beside another that moves bytes, in the same steps.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
import structlog

from nova.clock import Deadline
from nova.engine.control import ControlLine
from nova.engine.lanes import Lanes
from nova.engine.verify import verify
from nova.errors import FormingFailed, TransportError
from nova.transport.api import MAX_CARD_BYTES, ArrayGroup, ByteGroup, Endpoint, Group, Seat
from nova.transport.registry import load_transport
from nova.wire import phases
from nova.wire.messages import EngineState
from nova.wire.values import EngineKey, EngineSpec, LinkMeasure

log = structlog.get_logger(__name__)


class ControlRendezvous:
    """`nova.transport.api.Rendezvous` over the control plane."""

    def __init__(self, line: ControlLine, key: EngineKey) -> None:
        self._line = line
        self._key = key
        self._round = 0

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        self._round += 1
        return self._line.all_gather(self._key, self._round, blob, deadline)


@dataclass
class Opened:
    """One transport of the group, opened but not joined. `name` is for errors."""

    name: str
    endpoint: Endpoint
    card: bytes


def form(line: ControlLine, key: EngineKey, spec: EngineSpec) -> tuple[Lanes, LinkMeasure] | None:
    """This engine's place in the connected group and its link's figures; None when one engine is the whole group.

    Raises FormingFailed with the phase; the process then ends, as a group has one life per process.
    """
    if spec.size == 1:
        return None
    phase = phases.OPEN

    def enter(name: str) -> None:
        nonlocal phase
        phase = name
        line.send(EngineState(key, name))

    try:
        with ExitStack() as undo:
            enter(phases.OPEN)
            opened = [_open(name, options, _seat(key, spec, hosts), undo) for name, options, hosts in _transports(spec)]
            enter(phases.MEET)
            rendezvous = ControlRendezvous(line, key)
            # The others may still be starting; the clock of joining begins for all with the last card.
            cards = _exchange(opened, rendezvous, Deadline.after(spec.start_s))
            deadline = Deadline.after(spec.join_s)
            enter(phases.JOIN)
            groups = [_join(one, cards[index], rendezvous, deadline, undo) for index, one in enumerate(opened)]
            enter(phases.VERIFY)
            seat = _seat(key, spec, spec.hosts)
            lanes = _lanes(groups, spec.transport, seat)
            measure = verify(lanes, seat, spec.transport, deadline)
            undo.pop_all()
    except FormingFailed:
        raise
    except TransportError as error:
        raise FormingFailed(phase, spec.transport, key.rank, str(error)) from error
    for one in opened:
        one.endpoint.close()
    log.info(
        "group formed", transport=spec.transport, side=spec.side, rank=key.rank, size=spec.size,
        latency_us=round(measure.latency_s * 1e6), mib_s=round(measure.bandwidth_bytes_s / (1 << 20)),
    )  # fmt: skip
    return lanes, measure


def _transports(spec: EngineSpec) -> list[tuple[str, dict[str, object], list[str]]]:
    """Name, options and hosts of what is formed; the side channel first, because it is quick and sure."""
    main = (spec.transport, spec.options, spec.hosts)
    return [(spec.side, spec.side_options, spec.side_hosts), main] if spec.side else [main]


def _seat(key: EngineKey, spec: EngineSpec, hosts: list[str]) -> Seat:
    return Seat(key.group, key.generation, key.rank, spec.size, spec.ticket, tuple(hosts))


def _open(name: str, options: dict[str, object], seat: Seat, undo: ExitStack) -> Opened:
    endpoint = load_transport(name, options).open(seat)
    undo.callback(endpoint.close)
    card = endpoint.card()
    if len(card) > MAX_CARD_BYTES:
        raise FormingFailed(phases.OPEN, name, seat.rank, f"card of {len(card)} bytes, limit {MAX_CARD_BYTES}")
    return Opened(name, endpoint, card)


def _exchange(opened: list[Opened], rendezvous: ControlRendezvous, deadline: Deadline) -> list[list[bytes]]:
    """For each transport the cards of all ranks, in one round for all of them."""
    ours = msgspec.msgpack.encode([one.card for one in opened])
    theirs = [msgspec.msgpack.decode(blob, type=list[bytes]) for blob in rendezvous.all_gather(ours, deadline)]
    return [list(cards) for cards in zip(*theirs, strict=True)]


def _join(one: Opened, cards: list[bytes], rendezvous: ControlRendezvous, deadline: Deadline, undo: ExitStack) -> Group:
    group = one.endpoint.join(cards, rendezvous, deadline)
    undo.callback(group.abort)
    return group


def _lanes(groups: list[Group], transport: str, seat: Seat) -> Lanes:
    """The groups in their roles. Raises FormingFailed for one that is not what its plugin's kind must be."""
    frames, main = groups[0], groups[-1]
    if not isinstance(frames, ByteGroup):
        raise FormingFailed(phases.VERIFY, transport, seat.rank, f"{type(frames).__name__} moves no bytes")
    if main is frames:
        return Lanes(frames, None, groups)
    if not isinstance(main, ArrayGroup):
        raise FormingFailed(phases.VERIFY, transport, seat.rank, f"{type(main).__name__} moves no arrays")
    return Lanes(frames, main, groups)
