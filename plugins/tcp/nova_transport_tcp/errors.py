"""The one place where an operating system's error becomes one of Nova's."""

from __future__ import annotations

import errno

from nova.errors import FormingFailed, PeerLost, TransportError, TransportUnavailable

NAME = "tcp"


def translate(error: OSError, *, rank: int | None = None, phase: str | None = None, own: int = 0) -> TransportError:
    """While forming (`phase`) a FormingFailed at rank `own`; in a transfer with `rank` that it is lost; else that
    this machine cannot offer the transport."""
    why = f"{errno.errorcode.get(error.errno or 0, 'error')}: {error.strerror or error}"
    if phase is not None:
        return FormingFailed(phase, NAME, own, why)
    if rank is not None:
        return PeerLost(rank, why)
    return TransportUnavailable(why)
