"""Nova's data plane over MLX's ring backend: arrays and collectives over TCP, proved reachable before MLX dials."""

from nova_transport_ring.config import RingConfig
from nova_transport_ring.transport import RingTransport

__all__ = ["RingConfig", "RingTransport"]
