"""MLX's MPI backend as a transport of Nova: any-to-any arrays and collectives over Open MPI."""

from nova_transport_mpi.config import MpiConfig
from nova_transport_mpi.transport import MpiTransport

__all__ = ["MpiConfig", "MpiTransport"]
