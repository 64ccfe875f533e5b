"""Which keys a process comes in with, and whom it takes for the coordinator.

Between machines trust is given by hand, with `nova keys trust`. What shares one home on one machine belongs to one
user, so there keys are made and trusted as they are needed, by whichever process starts first.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from nova.config.schema import NodeConfig
from nova.control.keys import KeyPair, KeyStore
from nova.errors import KeyFileError

CLIENT_KEY = "client"
"""The key of the commands of this machine's user; the coordinator trusts the one in its own home."""


def node_keys(config: NodeConfig, home: Path) -> KeyPair:
    """This node's pair, made if there is none. Raises KeyFileError."""
    store = KeyStore(home)
    pair = store.ensure(config.name)
    if config.role == "coordinator":
        store.trust(config.name, pair.public)
        store.trust(CLIENT_KEY, store.ensure(CLIENT_KEY).public)
    elif is_loopback(config.control.address):
        store.trust(config.name, pair.public)
    return pair


def server_key(config: NodeConfig, home: Path) -> str:
    """The public key of the coordinator. Raises KeyFileError that says how to get it."""
    store, name = KeyStore(home), str(config.control.coordinator)
    try:
        return store.trusted_key(name)
    except KeyFileError:
        if not is_loopback(config.control.address):
            raise
        store.trust(name, store.ensure(name).public)
        return store.trusted_key(name)


def is_loopback(address: str) -> bool:
    """Whether host:port is on this machine only."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
