"""Why a connection did not come up, from the events of libzmq's socket monitor.

libzmq hides connections behind queues: to its user, a refused key and a coordinator that is switched off are the
same silence. The monitor tells them apart.
"""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message

from nova.control.sockets import Socket, receive
from nova.errors import ControlError, NodeLost, PeerRefused

_EVENTS = (
    zmq.Event.CONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.DISCONNECTED
    | zmq.Event.CLOSED
)

_NO_COORDINATOR = (
    "ended the handshake: it holds another key than the one trusted here, or is no Nova coordinator; "
    "compare `nova keys show` there with the key trusted here"
)


class Diagnosis:
    """What the events of one connection amount to. Sans-I/O: fed with events."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connected = False
        self._secured = False

    def event(self, event: zmq.Event) -> ControlError | None:
        """Why the connection is over, once it is."""
        peer = f"coordinator at {self._address}"
        if event == zmq.Event.CONNECTED:
            self._connected = True
        elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._secured = True
        elif event == zmq.Event.HANDSHAKE_FAILED_AUTH:
            return PeerRefused(f"{peer} refused our key: run `nova keys show` here and `nova keys trust` there")
        elif self._secured:
            return NodeLost(f"{peer} closed the connection")
        elif self._connected:
            return NodeLost(f"{peer} {_NO_COORDINATOR}")
        else:
            return NodeLost(f"{peer} does not answer (connection refused, timed out, or no such host)")
        return None


class Monitor:
    """The monitor of one DEALER. Its own `socket` is to be watched along with the DEALER's."""

    def __init__(self, watched: Socket, address: str) -> None:
        self._watched = watched
        self._diagnosis = Diagnosis(address)
        self.socket: Socket = watched.get_monitor_socket(_EVENTS)

    def read(self) -> ControlError | None:
        """Reads all events; why the connection is over, if it is."""
        why = None
        while (frames := receive(self.socket)) is not None:
            event = parse_monitor_message([frame.bytes for frame in frames])["event"]
            why = why or self._diagnosis.event(zmq.Event(event))
        return why

    def close(self) -> None:
        """To be called before the watched socket is closed; closes `socket` as well."""
        self._watched.disable_monitor()
        self.socket.close()
