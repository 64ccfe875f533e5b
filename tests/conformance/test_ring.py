"""`ring` keeps the contract."""

from __future__ import annotations

import pytest

from nova.testing.harness import Harness
from nova.testing.suite import TransportSuite
from nova.transport.api import Caps

EXPECT = Caps.ARRAYS | Caps.COLLECTIVES | Caps.PEER_FAILURE | Caps.FULL_DUPLEX | Caps.INTER_HOST


class TestRing(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("ring", ranks_as="processes", expect=EXPECT)
