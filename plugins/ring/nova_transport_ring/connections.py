"""The connections that MLX made. It has no function that ends them, so they are found from outside."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

import psutil
import structlog

from nova_transport_ring.links import Listener

log = structlog.get_logger(__name__)


class Connections:
    """Duplicates of MLX's sockets: a shutdown reaches the connection itself, and MLX's descriptors stay MLX's."""

    def __init__(self, own: Sequence[Listener], right: Sequence[Listener]) -> None:
        """`own` are the listeners that the left neighbour connected to, `right` those that this rank connected to."""
        left_of = {(each.host, each.port) for each in own}
        right_of = {(each.host, each.port) for each in right}
        self._sockets = [
            socket.fromfd(each.fd, socket.AF_INET, socket.SOCK_STREAM)
            for each in _established()
            if each.laddr in left_of or each.raddr in right_of
        ]
        if len(self._sockets) != len(own) + len(right):  # only the process's end will tell the neighbours then
            log.warning("not all connections of MLX's ring were found", found=len(self._sockets))

    def shut(self) -> None:
        """End them both ways: what was sent still arrives, and both ends see the end. Never blocks."""
        for each in self._sockets:
            with contextlib.suppress(OSError):  # the peer was quicker
                each.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give up the duplicates."""
        for each in self._sockets:
            each.close()


def _established() -> list[Any]:
    try:
        found = psutil.Process().net_connections("tcp4")
    except psutil.Error:
        return []
    return [each for each in found if each.status == psutil.CONN_ESTABLISHED]
