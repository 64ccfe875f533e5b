"""OpenAI's Responses API."""

from __future__ import annotations

from nova.api.responses.routes import router

__all__ = ["router"]
