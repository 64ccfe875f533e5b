"""/v1/embeddings: the last hidden state of a text, pooled and normalised."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from nova.api.ask import choices, served
from nova.api.errors import ApiError, invalid
from nova.api.gate import Gate
from nova.api.openai.answers import REFUSALS, EmbeddingList
from nova.api.openai.completions import as_tokens
from nova.api.openai.fields import Asked, TokenIds
from nova.coordinator.port import Port
from nova.ids import new_request_id
from nova.wire.requests import Embedded, Generate
from nova.wire.work import Sampling

MAX_INPUTS = 2048
AT_ONCE = 8
"""Inputs of one request that are worked on at once: a long list leaves room for others."""


class EmbeddingBody(Asked):
    input: (
        str
        | Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)]
        | TokenIds
        | Annotated[list[TokenIds], Field(fail_fast=True, min_length=1, max_length=MAX_INPUTS)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    pooling: Literal["mean", "last"] | None = Field(None, description="over the tokens of an input; mean if left out")


def router(port: Port, gate: Gate) -> APIRouter:
    router = APIRouter(tags=["openai"], responses=REFUSALS)

    @router.post("/v1/embeddings", response_model=EmbeddingList)
    async def embeddings(body: EmbeddingBody) -> Response:
        """A vector of length 1 for each input."""
        model = served(port, body.model)
        if body.dimensions is not None:
            raise invalid("the vectors of this model cannot be shortened: leave it out", "dimensions")
        inputs = await as_tokens(port, body.input)
        asks = [
            Generate(new_request_id(), tokens, 1, Sampling(), deadline_s=gate.deadline_s, pool=body.pooling or "mean")
            for tokens in inputs
        ]
        found = [one for start in range(0, len(asks), AT_ONCE) for one in await _embed(port, asks[start:][:AT_ONCE])]
        read = sum(one.prompt_tokens for one in found)
        form = _base64 if body.encoding_format == "base64" else _floats
        return JSONResponse(
            {
                "object": "list",
                "data": [
                    {"object": "embedding", "index": index, "embedding": form(one.vector)}
                    for index, one in enumerate(found)
                ],
                "model": model.name,
                "usage": {"prompt_tokens": read, "total_tokens": read},
            }
        )

    return router


async def _embed(port: Port, asks: Sequence[Generate]) -> list[Embedded]:
    found: dict[int, Embedded] = {}
    async with aclosing(choices(port, asks)) as events:
        async for index, event in events:
            if isinstance(event, Embedded):
                found[index] = event
    if len(found) < len(asks):
        raise ApiError(500, "an input ended without its vector")
    return [found[index] for index in range(len(asks))]


def _unit(vector: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    read = np.frombuffer(vector, "<f4")
    length = float(np.linalg.norm(read))
    return (read / length if length else read).astype("<f4")


def _floats(vector: bytes) -> list[float]:
    floats: list[float] = _unit(vector).tolist()
    return floats


def _base64(vector: bytes) -> str:
    return base64.b64encode(_unit(vector).tobytes()).decode()
