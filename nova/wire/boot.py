"""What processes tell each other before there is a socket, one JSON line each."""

from __future__ import annotations

from nova.wire.values import Record


class Boot(Record, frozen=True):
    """The first line on an engine's standard input: where its daemon listens. The rest comes over the socket.

    `identity` is a secret routing id, in hex: the daemon takes messages from no other.
    """

    endpoint: str
    identity: str
    heartbeat_s: float
    home: str
    node: str
    engine: str
    log_level: str
    log_format: str


class Announcement(Record, frozen=True):
    """What `nova-node --json` prints once it is up. `address` is the coordinator's, with the port in use;
    `engines` is where this daemon's engines connect; `api` is the URL of the HTTP API, "" where there is none."""

    name: str
    role: str
    address: str
    pid: int
    engines: str
    api: str = ""
