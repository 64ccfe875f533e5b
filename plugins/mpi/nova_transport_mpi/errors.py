"""The one place where an error of MLX, Open MPI or the system becomes one of Nova's."""

from __future__ import annotations

from nova.errors import FormingFailed, GroupBroken, TransportError, TransportUnavailable
from nova.wire import phases

NAME = "mpi"


def translate(error: Exception, *, forming: int | None = None, peer: int | None = None) -> TransportError:
    """While rank `forming` joins a FormingFailed; in a transfer with `peer` that the group is broken; else that this
    machine cannot offer the transport."""
    why = str(error) or type(error).__name__
    if forming is not None:
        return failed(forming, why)
    if peer is not None:
        return GroupBroken(f"MLX's transfer with rank {peer} failed: {why}")
    return TransportUnavailable(why)


def failed(rank: int, cause: str) -> FormingFailed:
    return FormingFailed(phases.JOIN, NAME, rank, cause)
