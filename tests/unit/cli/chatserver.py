"""A server with as much of OpenAI's chat API as `nova chat` uses, on loopback, that answers what a test tells it to."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

LIMIT_S = 20.0


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def end(finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}


def usage(prompt: int, completion: int, cached: int) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}
    return {"choices": [], "usage": counts}


class ChatServer:
    """`script` is what the next answer consists of: events, an int for an error's status, or an Event to wait for."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.asked: Queue[dict[str, Any]] = Queue()
        self.hung_up = threading.Event()
        self.scripts: Queue[list[Any]] = Queue()
        self.headers: dict[str, str] = {}
        self.models: list[str] = ["tiny"]
        self.error = {"error": {"message": "why it is refused", "type": "x", "code": None}}
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200, {"object": "list", "data": [{"id": name} for name in owner.models]})

            def do_POST(self) -> None:
                owner.headers = dict(self.headers)
                owner.asked.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                script = owner.scripts.get(timeout=LIMIT_S)
                if isinstance(script[0], int):
                    self._send(script[0], owner.error)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for step in script:
                        self._step(step)
                except OSError:
                    owner.hung_up.set()
                self.close_connection = True

            def _step(self, step: Any) -> None:
                if isinstance(step, str):
                    self.wfile.write(f"data: {step}\n\n".encode())
                elif isinstance(step, dict):
                    self.wfile.write(f"data: {json.dumps(step)}\n\n".encode())
                else:  # until the client has gone
                    self.connection.settimeout(LIMIT_S)
                    if not self.connection.recv(1):
                        owner.hung_up.set()

            def _send(self, status: int, body: Any) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Retry-After", "3")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self.url = f"http{'s' * (certificate is not None)}://127.0.0.1:{self.http.server_port}"

    def answers(self, *texts: str, reasoning: str = "", cached: int = 0) -> None:
        """The next answer, in pieces."""
        thoughts = [delta(reasoning_content=reasoning)] if reasoning else []
        pieces = [delta(content=text) for text in texts]
        self.scripts.put([*thoughts, *pieces, end(), usage(20, len(texts), cached), "[DONE]"])

    def messages(self) -> list[tuple[str, str]]:
        """What it was asked, as role and content."""
        return [(each["role"], each["content"]) for each in self.asked.get(timeout=LIMIT_S)["messages"]]


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[ChatServer]:
    """With a certificate (PEM, with its key) it speaks TLS."""
    server = ChatServer(certificate)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join(LIMIT_S)
        server.http.server_close()
