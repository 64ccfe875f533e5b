"""A real daemon with its HTTP API."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from nova.wire.boot import Announcement
from tests.unit.api.raw import connect, read_all

LIMIT_S = 60.0


@contextmanager
def daemon(home: Path, listen: str) -> Iterator[subprocess.Popen[str]]:
    """A coordinator that serves no model, with plain tcp only."""
    settings = [
        f"home={home}", "role=coordinator", "name=a", "control.coordinator=a", "control.address=127.0.0.1:0",
        'transport.order=["tcp"]', f"api.listen={listen}",
    ]  # fmt: skip
    options = [part for setting in settings for part in ("--set", setting)]
    with subprocess.Popen(
        [sys.executable, "-m", "nova", "--json", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_a_daemon_announces_its_api_and_ends_it_with_itself(tmp_path: Path) -> None:
    with daemon(tmp_path, "127.0.0.1:0") as process:
        assert process.stdout is not None
        url = msgspec.json.decode(process.stdout.readline(), type=Announcement).api
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).status_code == 200
        ready = httpx.get(f"{url}/ready", timeout=LIMIT_S)
        assert ready.status_code == 503
        assert ready.json()["why_not"]
        asked = httpx.post(f"{url}/v1/completions", json={"prompt": "a"}, timeout=LIMIT_S)
        assert (asked.status_code, asked.json()["error"]["code"]) == (503, "unavailable")
        assert b"nova_" in httpx.get(f"{url}/metrics", timeout=LIMIT_S).content
        with connect(url) as idle:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=LIMIT_S)
            assert read_all(idle) == b""
    assert process.returncode == 0, errors
    assert "Traceback" not in errors


def test_an_address_that_is_taken_ends_the_daemon_with_its_option(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with daemon(tmp_path, listen) as process:
            out, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (1, "")
    assert f"nova-node: api.listen: {listen} cannot be listened at" in errors
