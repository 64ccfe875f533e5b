"""uvicorn in the daemon's event loop, on a socket of ours."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import structlog
import uvicorn

from nova.api import spans
from nova.api.app import make_app
from nova.api.gate import Gate
from nova.api.spanned import SpannedPort
from nova.config.schema import Api
from nova.coordinator.port import Port
from nova.errors import ConfigError

log = structlog.get_logger(__name__)

_BACKLOG = 512
_HEADERS_BYTES = 64 << 10
_END_S = 0.5
"""s; requests in progress, which the coordinator has ended before, may take this long to tell their clients."""
_LEAVE_S = 2
"""s; and connections this long to close."""


class Server:
    """Listens from the moment it is made; `run` answers. Raises ConfigError for an address or a certificate."""

    def __init__(self, port: Port, config: Api) -> None:
        self._spans = spans.make(config.otlp)
        app = make_app(SpannedPort(port, self._spans) if self._spans else port, config)
        self._gate: Gate = app.state.gate
        self._ended = asyncio.Event()
        self._uvicorn = _Quiet(
            uvicorn.Config(
                app, http="h11", ws="none", lifespan="off", log_config=None, log_level="warning", access_log=False,
                server_header=False, proxy_headers=False, timeout_graceful_shutdown=_LEAVE_S,
                h11_max_incomplete_event_size=_HEADERS_BYTES,
                ssl_certfile=config.tls_certificate or None, ssl_keyfile=config.tls_key or None,
            )
        )  # fmt: skip
        _load(self._uvicorn.config, config)
        self._socket = bind(config.listen)
        host = config.listen.rpartition(":")[0]
        scheme = "https" if config.tls_certificate else "http"
        self.url = f"{scheme}://{host}:{self._socket.getsockname()[1]}"

    async def run(self) -> None:
        """Until `close`."""
        log.info("http is served", url=self.url)
        try:
            await self._uvicorn.serve([self._socket])
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Take no more requests, end those in progress, and wait until `run` has returned, about a second at most."""
        self._uvicorn.should_exit = True
        await self._gate.end(_END_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), 2 * _LEAVE_S)
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)


class _Quiet(uvicorn.Server):
    """Signals are the daemon's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(listen: str) -> socket.socket:
    """A listening socket at host:port, where 0 is any free port. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, number, _, address = found[0]
        listener = socket.socket(family, kind, number)
    except OSError as error:
        raise ConfigError(f"api.listen: {listen} cannot be listened at: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        hint = '; another server has it? give another port, or api.listen = "" for no HTTP'
        raise ConfigError(f"api.listen: {listen} cannot be listened at: {error}{hint}") from error
    return listener


def _load(server: uvicorn.Config, config: Api) -> None:
    """Read the certificate. Raises ConfigError."""
    try:
        server.load()
    except (OSError, ssl.SSLError) as error:
        files = f"{config.tls_certificate!r}, {config.tls_key!r}"
        raise ConfigError(f"api.tls_certificate, api.tls_key: cannot use {files}: {error}") from error
