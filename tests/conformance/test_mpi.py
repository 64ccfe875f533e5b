"""`mpi` keeps the contract. Its ranks are processes: MLX forms one MPI group in the life of each."""

from __future__ import annotations

import pytest

from nova.testing.harness import Harness
from nova.testing.suite import TransportSuite
from nova.transport.api import Caps


class TestMpi(TransportSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        wanted = Caps.ARRAYS | Caps.COLLECTIVES | Caps.ANY_PAIR | Caps.FULL_DUPLEX | Caps.INTER_HOST
        return Harness("mpi", ranks_as="processes", expect=wanted)
