"""A server per module, with a port that is as new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from tests.unit.api.fake import LIMIT_S, FakePort, served


@pytest.fixture(scope="module")
def _served() -> Iterator[tuple[FakePort, str]]:
    port = FakePort()
    with served(port) as url:
        yield port, url


@pytest.fixture(scope="module")
def url(_served: tuple[FakePort, str]) -> str:
    return _served[1]


@pytest.fixture
def port(_served: tuple[FakePort, str]) -> FakePort:
    vars(_served[0]).update(vars(FakePort()))
    return _served[0]


@pytest.fixture(scope="module")
def client(_served: tuple[FakePort, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{_served[1]}/v1", api_key="any", max_retries=0, timeout=LIMIT_S) as client:
        yield client
