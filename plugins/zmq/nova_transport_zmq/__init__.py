"""Nova's data plane over ZeroMQ: encrypted with CURVE, every peer's key checked, one socket per direction."""

from nova_transport_zmq.config import ZmqConfig
from nova_transport_zmq.transport import ZmqTransport

__all__ = ["ZmqConfig", "ZmqTransport"]
