"""Nova's data plane over RDMA on Thunderbolt 5: MLX's JACCL backend, with every reason why it cannot be used."""

from nova_transport_jaccl.config import JacclConfig
from nova_transport_jaccl.transport import JacclTransport

__all__ = ["JacclConfig", "JacclTransport"]
