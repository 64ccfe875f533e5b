"""Typed identifiers, so that a rank never passes for a stage or a request for a session."""

from __future__ import annotations

import secrets
from typing import NewType

NodeName = NewType("NodeName", str)
"""A node's name: unique in a deployment, bound to the node's key."""

RequestId = NewType("RequestId", str)
"""A client's request; chosen by the client, unique within its session."""

ChunkStream = NewType("ChunkStream", int)
"""A request inside one group: 64 bits on the data plane, given out by the coordinator."""


def new_request_id() -> RequestId:
    return RequestId(secrets.token_hex(8))


def new_ticket() -> bytes:
    """A secret for one generation of one group: 32 random bytes."""
    return secrets.token_bytes(32)
