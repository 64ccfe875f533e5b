"""For those who watch over the server: is it alive, does it serve, and its metrics."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel

from nova.coordinator.port import Port

_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """`why_not` says why requests would not be served."""

    status: str
    why_not: str = ""


def router(port: Port) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", response_model=Health)
    async def health() -> Health:
        """The process answers, whatever it can serve."""
        return Health(status="ok")

    @router.get("/ready", response_model=Health, responses={503: {"model": Health}})
    async def ready() -> Response:
        """200 while requests are served."""
        why_not = port.why_not
        document = Health(status="waiting" if why_not else "ready", why_not=why_not)
        return JSONResponse(document.model_dump(), 503 if why_not else 200)

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(port.metrics(), media_type=_METRICS)

    return router
