"""Keys, sizes, places, time and hang-ups, over real connections."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from nova.api import gate
from nova.api.gate import check_text
from nova.config.schema import Api
from tests.unit.api.fake import LIMIT_S, FakePort, served
from tests.unit.api.raw import connect, head, read_all, read_until, request

KEY = "nova-secret"
HI = {"messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def _narrow() -> Iterator[tuple[FakePort, str]]:
    port = FakePort()
    config = Api(
        listen="127.0.0.1:0", max_body_bytes=2048, concurrent=2, cors=["https://chat.example"],
        keys=["sha256:" + hashlib.sha256(key.encode()).hexdigest() for key in ("other", KEY)],
    )  # fmt: skip
    with served(port, config) as url:
        yield port, url


@pytest.fixture
def narrow(_narrow: tuple[FakePort, str]) -> tuple[FakePort, str]:
    vars(_narrow[0]).update(vars(FakePort()))
    return _narrow


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": "bearer other"}, 200),
        ({"x-api-key": KEY}, 200),
    ],
)
def test_a_key_opens_the_api(narrow: tuple[FakePort, str], headers: dict[str, str], status: int) -> None:
    answer = httpx.post(narrow[1] + CHAT, json=HI, headers=headers, timeout=LIMIT_S)
    assert answer.status_code == status
    if status == 401:
        assert answer.headers["www-authenticate"] == "Bearer"
        assert narrow[0].asked == []
        assert "wrong" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/ready", 200), ("/metrics", 401), ("/openapi.json", 401), ("/none", 401)]
)
def test_only_health_needs_no_key(narrow: tuple[FakePort, str], path: str, status: int) -> None:
    assert httpx.get(narrow[1] + path, timeout=LIMIT_S).status_code == status


def test_an_anthropic_client_without_a_key_hears_so_in_its_shape(narrow: tuple[FakePort, str]) -> None:
    answer = httpx.post(f"{narrow[1]}/v1/messages", json={}, timeout=LIMIT_S)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


def test_a_key_does_not_read_what_another_key_has_made(narrow: tuple[FakePort, str]) -> None:
    mine, other = ({"authorization": f"Bearer {key}"} for key in (KEY, "other"))
    with httpx.Client(base_url=narrow[1] + "/v1", timeout=LIMIT_S) as web:
        name = web.post("/responses", json={"input": "hi"}, headers=mine).json()["id"]
        assert web.get(f"/responses/{name}", headers=other).status_code == 404
        assert web.delete(f"/responses/{name}", headers=other).status_code == 404
        body = {"input": "And?", "previous_response_id": name}
        assert [web.post("/responses", json=body, headers=one).status_code for one in (other, mine)] == [400, 200]
        assert web.get(f"/responses/{name}", headers={"x-api-key": KEY}).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_read(narrow: tuple[FakePort, str]) -> None:
    with connect(narrow[1]) as connection:
        connection.sendall(head(CHAT, f"x-api-key: {KEY}", "content-length: 2049"))
        assert b" 413 " in read_until(connection, b"api.max_body_bytes")


def test_a_body_of_no_stated_length_is_counted_as_it_comes(narrow: tuple[FakePort, str]) -> None:
    with connect(narrow[1]) as connection:
        connection.sendall(head(CHAT, f"x-api-key: {KEY}", "transfer-encoding: chunked"))
        for _ in range(3):
            connection.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert b" 413 " in read_until(connection, b"api.max_body_bytes")


def test_more_requests_than_places_are_told_to_come_back(narrow: tuple[FakePort, str]) -> None:
    port, url = narrow
    port.held = True
    with connect(url) as first, connect(url) as second:
        for each in (first, second):
            each.sendall(request(CHAT, {**HI, "stream": True}).replace(b"host:", f"x-api-key: {KEY}\r\nhost:".encode()))
            assert b" 200 " in read_until(each, b"assistant")
        answer = httpx.post(url + CHAT, json=HI, headers={"x-api-key": KEY}, timeout=LIMIT_S)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert httpx.get(f"{url}/metrics", headers={"x-api-key": KEY}, timeout=LIMIT_S).status_code == 200
    assert port.abandoned.get(timeout=LIMIT_S) != port.abandoned.get(timeout=LIMIT_S)
    port.held = False
    assert httpx.post(url + CHAT, json=HI, headers={"x-api-key": KEY}, timeout=LIMIT_S).status_code == 200


def test_pages_of_the_origins_named_may_use_it_and_no_others(narrow: tuple[FakePort, str], url: str) -> None:
    asks = {"origin": "https://chat.example", "access-control-request-method": "POST"}
    allowed = httpx.options(narrow[1] + CHAT, headers=asks, timeout=LIMIT_S)
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, "https://chat.example")
    other = httpx.options(narrow[1] + CHAT, headers={**asks, "origin": "https://evil.example"}, timeout=LIMIT_S)
    assert "access-control-allow-origin" not in other.headers
    refused = httpx.post(narrow[1] + CHAT, json=HI, headers={"origin": "https://chat.example"}, timeout=LIMIT_S)
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (401, True)
    by_default = httpx.options(url + CHAT, headers=asks, timeout=LIMIT_S)
    assert "access-control-allow-origin" not in by_default.headers


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_a_client_that_hangs_up_abandons_its_requests(port: FakePort, url: str, streamed: bool, count: int) -> None:
    port.held = True
    with connect(url) as connection:
        connection.sendall(request(CHAT, {**HI, "stream": streamed, "n": count}))
        for _ in range(count):
            assert port.accepted.acquire(timeout=LIMIT_S)
    found = {port.abandoned.get(timeout=LIMIT_S) for _ in range(count)}
    assert found == {ask.request for ask in port.asked}


def test_a_client_that_hangs_up_inside_a_stream_abandons_its_request(port: FakePort, url: str) -> None:
    port.text, port.step = "x" * 1_000_000, 1
    with connect(url) as connection:
        connection.sendall(request(CHAT, {**HI, "stream": True}))
        read_until(connection, b'"content":"x"')
    assert port.abandoned.get(timeout=LIMIT_S) == port.asked[0].request


def test_a_client_that_hangs_up_inside_its_body_asks_nothing(port: FakePort, url: str) -> None:
    with connect(url) as connection:
        connection.sendall(head(CHAT, "content-length: 100") + b'{"messages"')
    assert httpx.get(f"{url}/health", timeout=LIMIT_S).status_code == 200
    assert port.asked == []


def test_a_body_that_does_not_come_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "GRACE_S", 0.05)
    with served(FakePort(), Api(listen="127.0.0.1:0", request_s=0.05)) as url, connect(url) as connection:
        connection.sendall(head(CHAT, "content-length: 100", "connection: close"))
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")


def test_the_time_of_a_request_is_its_deadline(port: FakePort, url: str) -> None:
    httpx.post(url + CHAT, json=HI, timeout=LIMIT_S)
    assert port.asked[0].deadline_s == Api().request_s


def test_bodies_without_half_characters_pass() -> None:
    for body in (b"", b"{", b'"\\ud83d\\ude00"', b'"\\\\ud800"', b'{"a": "\\ud'):
        check_text(body)
