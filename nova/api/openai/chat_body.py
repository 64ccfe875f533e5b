"""The body of /v1/chat/completions, and what it means for the model."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import Field

from nova.api import grammar, tools
from nova.api.errors import invalid
from nova.api.openai.fields import MAX_TOKENS, JsonObject, Sampled
from nova.api.openai.messages import (
    Messages,
    NamedTool,
    ToolChoice,
    Tools,
    for_template,
    tools_for_template,
)
from nova.coordinator.port import Chat


class ChatBody(Sampled):
    messages: Messages
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    response_format: JsonObject | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    chat_template_kwargs: JsonObject | None = Field(None, description="for the chat template, as enable_thinking")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int:
        """As `nova.wire.work.Sampling.logprobs`."""
        if not self.logprobs:
            if self.top_logprobs:
                raise invalid("needs logprobs to be true", "top_logprobs")
            return -1
        return self.top_logprobs or 0

    @property
    def must_call(self) -> bool:
        return self.tool_choice == "required" or isinstance(self.tool_choice, NamedTool)

    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of."""
        if self.tool_choice == "none":
            return []
        return tools_for_template(self.tools or [])

    def chat(self) -> Chat:
        return Chat(for_template(self.messages), self.offered(), self.chat_template_kwargs or {})

    async def constraint(self) -> str:
        """The grammar of the answer: a call that must be made, else a format; "" leaves it free. Raises ApiError."""
        if self.must_call:
            name = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else ""
            return await asyncio.to_thread(tools.forced, self.offered(), name)
        if self.response_format is not None:
            return await asyncio.to_thread(grammar.of_format, self.response_format)
        return ""
