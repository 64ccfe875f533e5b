from __future__ import annotations

from collections.abc import Callable

import pytest
from nova_transport_tcp import TcpConfig, TcpTransport
from nova_transport_zmq import ZmqConfig, ZmqTransport

from nova.transport.memory import Hub, MemoryConfig, MemoryTransport

from .harness import Harness


def _memory() -> Harness:
    hub = Hub()
    return Harness("memory", lambda: MemoryTransport(MemoryConfig(), hub), process=False, listens=False)


HARNESSES: dict[str, Callable[[], Harness]] = {
    "memory": _memory,
    "tcp": lambda: Harness("tcp", lambda: TcpTransport(TcpConfig()), process=True, listens=True),
    "zmq": lambda: Harness("zmq", lambda: ZmqTransport(ZmqConfig()), process=True, listens=True),
    "zmq-plain": lambda: Harness("zmq", lambda: ZmqTransport(ZmqConfig(curve=False)), process=False, listens=True),
}


@pytest.fixture(params=list(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Harness:
    return HARNESSES[request.param]()
