"""Admission: the ZAP handler that a CURVE server asks about every key (RFC 27).

A CURVE server without one admits whoever knows its public key. Here a key is admitted if it is trusted, and the
`User-Id` that libzmq then attaches to each frame of that connection is the name the key is trusted under: it is
the name, not the key, that the rest of the control plane works with.
"""

from __future__ import annotations

import structlog
import zmq
from zmq.auth import Authenticator
from zmq.utils import z85

from nova.control.keys import KeyStore
from nova.errors import KeyFileError

DOMAIN = b"nova"

_log = structlog.get_logger(__name__)


class TrustList:
    """The trusted names by key, read again whenever the folder has changed."""

    def __init__(self, store: KeyStore) -> None:
        """Reads the folder once, so that a bad file is reported here: raises KeyFileError."""
        self._store = store
        self._stamp = store.stamp()
        self._names = store.trusted()

    def name_of(self, public: str) -> str | None:
        """The name of a Z85 public key, or None. While a file is unreadable the last good list stands."""
        try:
            stamp = self._store.stamp()
            if stamp != self._stamp:
                # The stamp is taken before the reading: a change in between is then seen next time.
                self._names, self._stamp = self._store.trusted(), stamp
        except KeyFileError as error:
            _log.error("trusted keys not read, keeping those known", why=str(error))
        return self._names.get(public)


class Zap(Authenticator):
    """pyzmq's ZAP protocol with our trust. The owner reads `zap_socket` and passes each request to
    `handle_zap_message`; one per zmq context, started before the server binds, stopped after it closed."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], trust: TrustList) -> None:
        super().__init__(context)
        self._trust = trust
        self.refusals = 0
        self.configure_curve_callback(DOMAIN.decode(), self)

    def callback(self, domain: str, key: bytes) -> bool:
        """pyzmq asks here whether a Z85 key may come in."""
        public = key.decode("ascii")
        admitted = self._trust.name_of(public) is not None
        if not admitted:
            self.refusals += 1
            if self.refusals & (self.refusals - 1) == 0:  # the 1st, 2nd, 4th, 8th ...: a stranger cannot fill the log
                _log.warning("refused a key that is not trusted", key=public, refusals=self.refusals)
        return admitted

    def curve_user_id(self, client_public_key: bytes) -> str:
        """The `User-Id` of an admitted connection; empty, which no session accepts, if trust ended meanwhile."""
        return self._trust.name_of(z85.encode(client_public_key).decode("ascii")) or ""
