"""/v1/models: the one that is served."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nova.api.ask import served
from nova.api.openai.answers import REFUSALS, Model, ModelList
from nova.coordinator.port import ModelFacts, Port


def router(port: Port) -> APIRouter:
    router = APIRouter(tags=["openai"], responses=REFUSALS)

    @router.get("/v1/models", response_model=ModelList)
    async def models() -> Response:
        """The served model; an empty list until it is opened."""
        model = port.model
        return JSONResponse({"object": "list", "data": [_told(model)] if model else []})

    @router.get("/v1/models/{name:path}", response_model=Model)
    async def model(name: str) -> Response:
        return JSONResponse(_told(served(port, name)))

    return router


def _told(model: ModelFacts) -> dict[str, Any]:
    return {
        "id": model.name, "object": "model", "created": model.created, "owned_by": "nova",
        "max_model_len": model.context,
    }  # fmt: skip
