"""The server's life: its socket, its certificate, its end."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from nova.api.server import Server
from nova.clock import Deadline
from nova.config.schema import Api
from nova.errors import ConfigError
from tests.unit.api.fake import LIMIT_S, FakePort, served
from tests.unit.api.raw import connect, read_all, read_until, request

STREAM = request("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}], "stream": True})


def test_an_address_in_use_is_told_with_its_option() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=rf"api\.listen: {listen} cannot be listened at: .*in use"):
            Server(FakePort(), Api(listen=listen))


def test_a_name_that_is_none_is_told_with_its_option() -> None:
    with pytest.raises(ConfigError, match=r"api\.listen: host\.invalid:80"):
        Server(FakePort(), Api(listen="host.invalid:80"))


def test_it_listens_on_ipv6_too() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with served(FakePort(), Api(listen="[::1]:0")) as url:
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/health", timeout=LIMIT_S).status_code == 200


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_read_is_told_with_its_option(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tls.pem"
    if content is not None:
        file.write_text(content)
    config = Api(listen="127.0.0.1:0", tls_certificate=str(file), tls_key=str(file))
    with pytest.raises(ConfigError, match=r"api\.tls_certificate.*tls\.pem"):
        Server(FakePort(), config)


def test_with_a_certificate_it_speaks_tls_only(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "tls.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=LIMIT_S,
    )  # fmt: skip
    trust = ssl.create_default_context(cafile=str(certificate))
    config = Api(listen="127.0.0.1:0", tls_certificate=str(certificate), tls_key=str(key))
    with served(FakePort(), config) as url:
        assert url.startswith("https://127.0.0.1:")
        assert httpx.get(f"{url}/health", verify=trust, timeout=LIMIT_S).status_code == 200
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{url}/health".replace("https", "http"), timeout=LIMIT_S)


def test_streams_end_with_the_coordinators_reason_when_it_ends() -> None:
    port = FakePort(held=True)
    with served(port, before_close=port.end) as url:
        connection = connect(url)
        connection.sendall(STREAM)
        assert b" 200 " in read_until(connection, b"assistant")
    with connection:
        rest = read_all(connection)
    assert b"event: error" in rest
    assert b"the coordinator ends" in rest
    assert b"data: [DONE]" in rest


def test_a_stream_that_does_not_end_by_itself_is_cut_and_the_port_is_free_soon() -> None:
    port = FakePort(held=True)
    with served(port) as url:
        connection = connect(url)
        connection.sendall(STREAM)
        read_until(connection, b"assistant")
        deadline = Deadline.after(3.0)
    assert not deadline.expired
    assert port.abandoned.get(timeout=LIMIT_S) == port.asked[0].request
    with connection:
        assert b"[DONE]" not in read_all(connection)
    socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))).close()


def test_an_idle_connection_does_not_hold_the_server() -> None:
    with served(FakePort()) as url:
        connection = connect(url)
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: test\r\n\r\n")
        read_until(connection, b'"ok"')
        deadline = Deadline.after(2.0)
    assert not deadline.expired
    connection.close()
