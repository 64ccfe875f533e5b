"""The one place where one of ZeroMQ's errors becomes one of Nova's."""

from __future__ import annotations

import zmq

from nova.errors import FormingFailed, PeerLost, TransportError, TransportUnavailable

NAME = "zmq"


def translate(
    error: zmq.ZMQError, *, rank: int | None = None, phase: str | None = None, own: int = 0
) -> TransportError:
    """While forming (`phase`) a FormingFailed at rank `own`; in a transfer with `rank` that it is lost; else that
    this machine cannot offer the transport."""
    if phase is not None:
        return FormingFailed(phase, NAME, own, str(error))
    if rank is not None:
        return PeerLost(rank, str(error))
    return TransportUnavailable(str(error))
