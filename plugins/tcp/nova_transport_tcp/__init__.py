"""Nova's data plane over plain TCP sockets: one connection per pair of ranks, authenticated, not encrypted."""

from nova_transport_tcp.config import TcpConfig
from nova_transport_tcp.transport import TcpTransport

__all__ = ["TcpConfig", "TcpTransport"]
