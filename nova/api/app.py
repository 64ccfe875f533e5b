"""The ASGI application: every route, and what stands round all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

import nova
from nova.api import anthropic, health, responses
from nova.api.errors import ApiError, invalid
from nova.api.gate import Door, Gate, error_response
from nova.api.openai.routers import routers
from nova.config.schema import Api
from nova.coordinator.port import Port
from nova.errors import ModelError

log = structlog.get_logger(__name__)

_MAX_PROBLEMS = 10
"""A body may be wrong in very many places: the first are looked at."""


def make_app(port: Port, config: Api) -> FastAPI:
    """All APIs over `port`, within the limits of `config`."""
    app = FastAPI(title="Nova", version=nova.__version__, docs_url=None, redoc_url=None)
    app.state.gate = gate = Gate(config)
    app.include_router(health.router(port))
    for router in (*routers(port, gate), responses.router(port, gate), anthropic.router(port, gate)):
        app.include_router(router)
    app.add_middleware(Door, gate=gate)
    if config.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )
    app.add_exception_handler(ApiError, _refused)
    app.add_exception_handler(ModelError, _unreadable)
    app.add_exception_handler(RequestValidationError, _misshaped)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _failed)
    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return error_response(error, request.scope)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    """What the model's tokenizer or chat template does not take."""
    return error_response(invalid(str(error)), request.scope)


async def _misshaped(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    told = [(_field(problem), _text(problem)) for problem in error.errors()[:_MAX_PROBLEMS]]
    # Of a union's alternatives, those count that had more to object to than the type of the whole.
    deepest = [one for one in told if not any(other[0].startswith((f"{one[0]}.", f"{one[0]}[")) for other in told)]
    texts = [f"{field}: {text}" if field else text for field, text in deepest]
    return error_response(invalid("; ".join(dict.fromkeys(texts)), deepest[0][0] or None), request.scope)


async def _unrouted(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    response = error_response(ApiError(error.status_code, message), request.scope)
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """A defect of ours. Starlette raises it again, so uvicorn logs it with its traceback, of which a client sees none,
    and closes the connection."""
    log.error("a request met a defect", path=request.url.path, why=repr(error))
    response = error_response(ApiError(500, "an error of the server; its log has the details"), request.scope)
    response.headers.update({"connection": "close", "x-request-id": request.state.request_id})
    return response


def _field(problem: Mapping[str, Any]) -> str:
    """Where in the body, as messages[0].content; without pydantic's names of a union's alternatives."""
    path = ""
    for part in () if problem["type"] == "json_invalid" else problem["loc"][1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part.islower() and part not in ("str", "int", "float", "bool"):
            path += f".{part}" if path else part
    return path


def _text(problem: Mapping[str, Any]) -> str:
    text = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "json_invalid":
        text += f": {problem['ctx']['error']} at character {problem['loc'][-1]}"
    return text
