"""Nova's data plane over ZeroMQ: encrypted with CURVE, every peer's key checked, one socket per direction."""

from nova_transport_zmq.transport import ZmqConfig, ZmqTransport

__all__ = ["ZmqConfig", "ZmqTransport"]
