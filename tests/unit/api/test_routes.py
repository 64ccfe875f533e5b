"""The small routes: models, tokens, health, readiness, metrics; and what is none."""

from __future__ import annotations

import httpx
import openai
import pytest
from pydantic import ValidationError

from nova.api.anthropic import fields as anthropic
from nova.api.openai.chat_body import ChatBody
from nova.api.openai.fields import Body
from nova.api.responses import fields as responses
from tests.unit.api.fake import LIMIT_S, MODEL, FakePort


@pytest.fixture
def http(url: str, port: FakePort) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=LIMIT_S)


def test_the_served_model_is_listed_and_found(client: openai.OpenAI, port: FakePort) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).created == 1700000000
    with pytest.raises(openai.NotFoundError, match="'a/b' is not served"):
        client.models.retrieve("a/b")


def test_no_model_is_an_empty_list(client: openai.OpenAI, port: FakePort) -> None:
    port.opened = False
    assert list(client.models.list()) == []


def test_tokens_and_text_turn_into_each_other(http: httpx.Client) -> None:
    with http:
        tokens = http.post("/tokenize", json={"prompt": "né"}).json()
        assert tokens == {"tokens": [110, 195, 169], "count": 3, "max_model_len": 4096}
        assert http.post("/detokenize", json={"tokens": tokens["tokens"]}).json() == {"prompt": "né"}
        chat = {"messages": [{"role": "user", "content": "ab"}], "chat_template_kwargs": {"x": 1}}
        assert http.post("/tokenize", json=chat).json()["tokens"] == [97, 98]
        assert http.post("/tokenize", json={}).json()["error"]["message"] == "give either prompt or messages"
        unknown = http.post("/detokenize", json={"tokens": [999]})
        assert (unknown.status_code, "vocabulary" in unknown.json()["error"]["message"]) == (400, True)


def test_health_is_always_well_and_ready_only_while_serving(http: httpx.Client, port: FakePort) -> None:
    port.why_not = "waits for node-2"
    with http:
        assert http.get("/health").status_code == 200
        waiting = http.get("/ready")
        assert (waiting.status_code, waiting.json()["why_not"]) == (503, "waits for node-2")
        port.why_not = ""
        assert http.get("/ready").status_code == 200


def test_metrics_are_in_prometheus_format(http: httpx.Client) -> None:
    with http:
        answer = http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.endswith("nova_up 1.0\n")


def test_what_is_no_route_is_refused_in_the_apis_own_shape(http: httpx.Client) -> None:
    with http:
        missing, wrong = http.get("/v1/files"), http.get("/v1/embeddings")
        anthropic = http.get("/v1/messages")
    assert (missing.status_code, missing.json()["error"]["message"]) == (404, "Not Found: GET /v1/files")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert anthropic.json()["type"] == "error"
    assert anthropic.json()["request_id"] == anthropic.headers["x-request-id"]
    assert len({each.headers["x-request-id"] for each in (missing, wrong, anthropic)}) == 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": 1e400}',
        b'{"messages": [{"role": "user", "content": "a"}], "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "seed": ' + b"9" * 400 + b"}",
        b'{"messages": [{"role": "user", "content": "a"}], "temperature": ' + b"9" * 400 + b"}",
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "a"}], "tools": [], "chat_template_kwargs": '
        + (b'{"a":' * 400 + b"1" + b"}" * 401),
        b'{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"a": NaN}}',
        b'{"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"a": "\\udfff"}}',
        b'{"messages": [{"role": "user", "content": "\\uD800\\uD800"}]}',
        b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
        '{"messages": [{"role": "user", "content": "\\ud800"}]}'.encode("utf-16"),
        '{"messages": [{"role": "user", "content": "\\ud800"}]}'.encode("utf-16-le"),
        b'{"messages": [' + b'{"role": "x"},' * 50_000 + b'{"role": "x"}]}',
    ],
)  # fmt: skip
def test_a_body_that_is_no_request_gets_a_400_that_says_why(http: httpx.Client, port: FakePort, body: bytes) -> None:
    with http:
        answer = http.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]
    assert "Traceback" not in answer.text
    assert port.asked == []


@pytest.mark.parametrize(
    ("model", "field"), [(anthropic.Asked, "messages"), (responses.Create, "input"), (ChatBody, "messages")]
)
@pytest.mark.parametrize("inside", [True, False])
def test_a_list_of_very_many_wrong_things_gets_few_objections(model: type[Body], field: str, inside: bool) -> None:
    wrong = [{"role": "user", "content": [{}] * 4000}] if inside else [{}]
    with pytest.raises(ValidationError) as found:
        model.model_validate({"max_tokens": 1, field: wrong * 50})
    assert found.value.error_count() < 10


@pytest.mark.parametrize(("path", "field"), [("/v1/completions", "logit_bias"), ("/v1/responses", "metadata")])
def test_a_table_that_is_far_too_large_gets_one_objection(http: httpx.Client, path: str, field: str) -> None:
    body = {"prompt": "a", "input": "a", field: {f"x{index}": None for index in range(10_000)}}
    with http:
        answer = http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(f"{field}: more than ")


def test_an_escaped_pair_of_surrogates_is_a_character(http: httpx.Client) -> None:
    body = rb'{"prompt": "\ud83d\ude00 \\ud800"}'
    with http:
        answer = http.post("/tokenize", content=body, headers={"content-type": "application/json"})
    assert bytes(answer.json()["tokens"]).decode() == "\U0001f600 \\ud800"


def test_a_defect_of_ours_is_told_without_its_details(http: httpx.Client) -> None:
    with http:
        answer = http.post("/tokenize", json={"prompt": "defect"})
        assert http.get("/health").status_code == 200
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]
