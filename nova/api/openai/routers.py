"""The OpenAI API: chat, completions, embeddings and models, and two routes for tokens."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter

from nova.api.gate import Gate
from nova.api.openai import chat, completions, embeddings, models, tokens
from nova.coordinator.port import Port


def routers(port: Port, gate: Gate) -> Iterator[APIRouter]:
    yield chat.router(port, gate)
    yield completions.router(port, gate)
    yield embeddings.router(port, gate)
    yield models.router(port)
    yield tokens.router(port)
