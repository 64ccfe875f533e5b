"""A server with OpenAI's chat API, as `nova chat` asks it: over HTTP, its answers as server-sent events."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from nova import __version__
from nova.cli.chat_events import Event, Models, message, read
from nova.cli.conversation import Message
from nova.cli.sse import events
from nova.control.credentials import is_loopback
from nova.errors import ConfigError, GenerationError, NodeLost, ProtocolError

CONNECT_S = 10.0
MAX_ERROR_BYTES = 64 << 10
MAX_MODELS_BYTES = 1 << 20

_REMEDIES = {
    401: "give a key with --api-key or NOVA_API_KEY; `nova keys api` makes one",
    403: "this key may not do that; --api-key or NOVA_API_KEY gives another",
    404: "is --url the server's root, and --model a model that it serves?",
    429: "the server is busy: try again",
    503: "the server is not ready: `nova status` says why; try again",
}


class Server:
    """To be closed. Every method raises GenerationError with the server's reason and what to do, NodeLost when it
    cannot be reached or falls silent for `silent_s`, ProtocolError for what is not OpenAI's API."""

    def __init__(self, url: str, key: str, ca: Path | None, silent_s: float) -> None:
        self.url = root(url)
        headers = {"User-Agent": f"nova/{__version__}"} | ({"Authorization": f"Bearer {key}"} if key else {})
        timeout = httpx.Timeout(silent_s, connect=CONNECT_S)
        parts = httpx.URL(self.url)
        local = is_loopback(f"{parts.host}:0")  # where the proxy of the environment has no business
        try:
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=timeout, verify=_trust(ca), trust_env=not local
            )
        except (ValueError, UnicodeError) as error:
            raise ConfigError(f"--api-key: {error}") from error

    def close(self) -> None:
        self._http.close()

    def model(self) -> str:
        """The model that it names first."""
        with self._translated(), self._http.stream("GET", "/v1/models") as response:
            _refuse(response)
            content = _read(response, MAX_MODELS_BYTES)
        try:
            models = msgspec.json.decode(content, type=Models).data
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(
                f"{self.url}/v1/models is no list of models ({error}): is it the right --url?"
            ) from error
        if not models:
            raise GenerationError(f"{self.url} serves no model at this moment: `nova status` says why")
        return models[0].id

    def ask(self, model: str, messages: Sequence[Message], settings: dict[str, Any]) -> Generator[Event]:
        """The answer as it comes. Closing this earlier hangs up, which ends the request."""
        body = {
            "model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, **settings,
        }  # fmt: skip
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        request = self._http.build_request(
            "POST", "/v1/chat/completions", content=msgspec.json.encode(body), headers=headers
        )
        with self._translated():
            response = self._http.send(request, stream=True)
            try:
                _refuse(response)
                finished = False
                for data in events(response.iter_bytes()):
                    if data == "[DONE]":
                        return
                    event = read(data)
                    finished = finished or any(choice.finish_reason for choice in event.choices)
                    yield event
                if not finished:
                    raise NodeLost(f"{self.url} broke off in the middle of the answer")
            finally:
                response.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            remedy = "--ca FILE trusts a certificate" if "CERTIFICATE" in str(error) else "`nova serve -m M` starts one"
            raise NodeLost(f"no connection to {self.url} ({error}): {remedy}") from error
        except httpx.TimeoutException as error:
            raise NodeLost(f"{self.url} is silent ({type(error).__name__}): --silent waits for longer") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise NodeLost(f"{self.url} broke off: {error}") from error


def root(url: str) -> str:
    """The server's root; many name it with /v1. Raises ConfigError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"--url: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"--url: expected http://HOST:PORT or https://HOST:PORT, got {url!r}")
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(f"--ca: {ca}: no certificates in PEM: {error.strerror or error}") from error


def _refuse(response: httpx.Response) -> None:
    """Raises GenerationError unless the server has said yes."""
    if response.status_code == httpx.codes.OK:
        return
    said = message(_read(response, MAX_ERROR_BYTES))
    remedy = _REMEDIES.get(response.status_code, "")
    if remedy.endswith("try again") and (after := response.headers.get("Retry-After", "")).isdigit():
        remedy += f" in {after} s"
    raise GenerationError(": ".join(part for part in (f"{response.status_code}", said, remedy) if part))


def _read(response: httpx.Response, limit: int) -> bytes:
    """The body, as far as `limit`."""
    found = b""
    for piece in response.iter_bytes():
        found += piece
        if len(found) >= limit:
            break
    return found[:limit]
