"""Forming, as one engine goes through it: open, exchange cards, join at one go, verify.

The exchange of cards is an all-gather over the control plane: it ends for all ranks at the same moment, and that is
the agreed "go" without which a rank would wait for one that never starts.
"""

from __future__ import annotations

import structlog

from nova.clock import Deadline
from nova.engine.control import ControlLine
from nova.engine.verify import verify
from nova.errors import FormingFailed, TransportError
from nova.transport.api import MAX_CARD_BYTES, Group, Seat
from nova.transport.registry import load_transport
from nova.wire import phases
from nova.wire.messages import EngineKey, EngineSpec, EngineState

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


def form(line: ControlLine, key: EngineKey, spec: EngineSpec) -> Group | None:
    """This engine's place in the connected group, or None when one engine is the whole group.

    Raises FormingFailed with the phase; the process then ends, as a group has one life per process.
    """
    if spec.size == 1:
        return None
    seat = Seat(key.group, key.generation, key.rank, spec.size, spec.ticket, spec.host)
    rendezvous = ControlRendezvous(line, key)
    phase = phases.OPEN
    try:
        line.send(EngineState(key, phase))
        transport = load_transport(spec.transport, spec.options)
        endpoint = transport.open(seat)
        card = endpoint.card()
        if len(card) > MAX_CARD_BYTES:
            raise FormingFailed(phase, spec.transport, key.rank, f"card of {len(card)} bytes, limit {MAX_CARD_BYTES}")
        # The others may still be starting; the clock of joining begins for all with the last card.
        cards = rendezvous.all_gather(card, Deadline.after(spec.start_s))
        deadline = Deadline.after(spec.join_s)
        phase = phases.JOIN
        line.send(EngineState(key, phase))
        group = endpoint.join(cards, rendezvous, deadline)
        endpoint.close()
        phase = phases.VERIFY
        line.send(EngineState(key, phase))
        echo_s = verify(group, seat, spec.transport, deadline)
    except FormingFailed:
        raise
    except TransportError as error:
        raise FormingFailed(phase, spec.transport, key.rank, str(error)) from error
    log.info("group formed", transport=spec.transport, rank=key.rank, size=spec.size, echo_us=round(echo_s * 1e6))
    return group
