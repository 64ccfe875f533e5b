"""HTTP by hand, for what a well-kept client does not do."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from tests.unit.api.fake import LIMIT_S


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=LIMIT_S)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: test", "content-type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def request(path: str, document: Any) -> bytes:
    body = json.dumps(document).encode()
    return head(path, f"content-length: {len(body)}") + body


def read_until(connection: socket.socket, part: bytes) -> bytes:
    """What came until `part` is in it, or the end."""
    got = b""
    while part not in got and (some := connection.recv(65536)):
        got += some
    return got


def read_all(connection: socket.socket) -> bytes:
    got = b""
    while some := connection.recv(65536):
        got += some
    return got
