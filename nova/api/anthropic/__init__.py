"""The Anthropic API: messages, and how many tokens they have."""

from __future__ import annotations

from nova.api.anthropic.routes import router

__all__ = ["router"]
