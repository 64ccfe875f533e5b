"""The doorman: ZeroMQ asks it about every connection to a listening socket (ZAP, ZeroMQ RFC 27).

CURVE without a handler admits every stranger that knows the server's public key. Requests that come before the
cards are known simply wait, because nobody answers them until the join begins.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

import zmq
import zmq.utils.z85


class Doorman:
    """Answers the requests of one context. Used by one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")
        self.refused = 0

    def answer(self, awaited: Mapping[str, bytes]) -> None:
        """Answer one waiting request. `awaited` has per ZAP domain the only credential that is admitted."""
        version, request, domain, _address, _identity, _mechanism, *credentials = self.socket.recv_multipart()
        wanted = awaited.get(domain.decode(errors="replace"))
        shown = credentials[-1] if credentials else b""
        admitted = wanted is not None and hmac.compare_digest(wanted, shown)
        self.refused += not admitted
        code, text = (b"200", b"OK") if admitted else (b"400", b"not awaited here")
        self.socket.send_multipart([version, request, code, text, b"", b""])

    def close(self) -> None:
        self.socket.close(0)


def credential(key: str) -> bytes:
    """A CURVE public key as ZAP shows it."""
    return zmq.utils.z85.decode(key)
