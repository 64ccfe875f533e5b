"""The first line on an engine's standard input, as JSON: where its daemon listens. The rest comes over the socket."""

from __future__ import annotations

from nova.wire.messages import Record


class Boot(Record):
    """`identity` is a secret routing id, in hex: the daemon takes messages from no other."""

    endpoint: str
    identity: str
    heartbeat_s: float
    home: str
    node: str
    engine: str
    log_level: str
    log_format: str
