"""The reference transport keeps the contract; its ranks are threads of one process."""

from __future__ import annotations

import pytest

from nova.testing.harness import Harness
from nova.testing.suite import TransportSuite
from nova.transport.api import Caps
from nova.transport.memory import Hub, MemoryConfig, MemoryTransport

from .modest import MODEST, ModestTransport


class TestMemory(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        hub = Hub()
        expect = ~(Caps.COLLECTIVES | Caps.INTER_HOST)
        return Harness("memory", make=lambda: MemoryTransport(MemoryConfig(), hub), expect=expect)


class TestModest(TransportSuite):
    """What is not declared is refused, or does no harm."""

    @pytest.fixture
    def harness(self) -> Harness:
        hub = Hub()
        return Harness("memory", make=lambda: ModestTransport(MemoryConfig(), hub), expect=MODEST)
