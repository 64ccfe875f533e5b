"""/v1/embeddings, asked by OpenAI's own client."""

from __future__ import annotations

import base64
import struct
from typing import Any

import httpx
import openai
import pytest

from nova.api.openai.embeddings import AT_ONCE
from tests.unit.api.fake import LIMIT_S, MODEL, FakePort


def test_vectors_have_length_one_in_either_form(client: openai.OpenAI, port: FakePort) -> None:
    answer = client.embeddings.create(model=MODEL, input="abc", encoding_format="float")
    assert answer.data[0].embedding == pytest.approx([0.6, 0.8], abs=1e-6)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (3, 3)
    packed: Any = client.embeddings.create(model=MODEL, input="abc", encoding_format="base64").data[0].embedding
    assert struct.unpack("<2f", base64.b64decode(packed)) == pytest.approx((0.6, 0.8), abs=1e-6)


def test_a_list_is_answered_in_its_order_in_turns(client: openai.OpenAI, port: FakePort) -> None:
    texts = ["a" * length for length in range(1, 2 * AT_ONCE + 2)]
    answer = client.embeddings.create(model=MODEL, input=texts)
    assert [one.index for one in answer.data] == list(range(len(texts)))
    assert [len(ask.prompt) for ask in port.asked] == [len(text) for text in texts]
    assert answer.usage.prompt_tokens == sum(len(text) for text in texts)


def test_tokens_and_the_pooling_are_passed_on(client: openai.OpenAI, port: FakePort) -> None:
    answer = client.embeddings.create(model=MODEL, input=[[1, 2], [3]], extra_body={"pooling": "last"})
    assert [(ask.prompt, ask.pool) for ask in port.asked] == [([1, 2], "last"), ([3], "last")]
    assert answer.data[0].embedding == [0.0, 1.0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": "a", "dimensions": 2}, "dimensions"),
        ({"input": "a", "pooling": "max"}, "pooling"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": []}, "input"),
    ],
)
def test_what_is_not_done_here_is_refused_by_its_field(
    url: str, port: FakePort, fields: dict[str, Any], param: str
) -> None:
    answer = httpx.post(f"{url}/v1/embeddings", json=fields, timeout=LIMIT_S)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
