"""A defect of the module itself: it imports MLX at its top."""

from __future__ import annotations

import mlx.core as mx

from nova.transport.memory import MemoryTransport
from tests.conformance.mutants.base import fails


@fails("K3_its_import_is_cheap")
class ImportsMlx(MemoryTransport):
    default = mx.float32
