"""`zmq` keeps the contract, with CURVE and without."""

from __future__ import annotations

import pytest

from nova.testing.harness import Harness
from nova.testing.suite import TransportSuite
from nova.transport.api import Caps

EXPECT = ~(Caps.ARRAYS | Caps.COLLECTIVES)


class TestZmq(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("zmq", expect=EXPECT)


class TestZmqPlain(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("zmq", {"curve": False}, expect=EXPECT & ~Caps.ENCRYPTED)
