"""The phases of an engine's life, in order. A phase names where something went wrong, to people and in reports."""

from __future__ import annotations

BOOT = "boot"  # the process starts and imports
OPEN = "open"  # the transport takes its local resources
MEET = "meet"  # the cards are exchanged: it waits for ranks that still start
JOIN = "join"  # all ranks connect at one go
VERIFY = "verify"  # stamps and an echo cross the data plane
LOAD = "load"  # the stage's layers come into memory
READY = "ready"  # chunks may come
FAILED = "failed"  # it says why and ends

ORDER = (BOOT, OPEN, MEET, JOIN, VERIFY, LOAD, READY)
