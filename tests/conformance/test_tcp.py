"""`tcp` keeps the contract."""

from __future__ import annotations

import pytest

from nova.testing.harness import Harness
from nova.testing.suite import TransportSuite
from nova.transport.api import Caps


class TestTcp(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return Harness("tcp", expect=~(Caps.ARRAYS | Caps.COLLECTIVES | Caps.ENCRYPTED))
