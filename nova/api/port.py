"""What the HTTP front asks of the coordinator in whose process it runs. Defined there, since it lies below."""

from __future__ import annotations

from nova.coordinator.port import Chat, Event, ModelFacts, Port, Prompt

__all__ = ["Chat", "Event", "ModelFacts", "Port", "Prompt"]
