"""Identifiers and secrets that are made here and nowhere else."""

from __future__ import annotations

import secrets


def new_request_id() -> str:
    """A client's name for one of its requests."""
    return secrets.token_hex(8)


def new_ticket() -> bytes:
    """A secret for one generation of one group: 32 random bytes."""
    return secrets.token_bytes(32)
