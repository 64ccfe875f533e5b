"""What a request to the Anthropic API holds. Fields that are not known are left alone; wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nova.api.openai.fields import MAX_TOKENS, Body, JsonObject, Name, Stop

_MAX_BLOCKS = 4096
_MAX_MESSAGES = 4096
_MAX_TOOLS = 128

ToolName = Annotated[str, Field(min_length=1, max_length=256)]
Id = Annotated[str, Field(max_length=256)]


class TextBlock(Body):
    type: Literal["text"]
    text: str


class ThinkingBlock(Body):
    """Reasoning of an earlier turn. `signature` is not looked at."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Body):
    """Another server's, which nobody can read here."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(Body):
    type: Literal["tool_use"]
    id: Id
    name: ToolName
    input: JsonObject


Texts = str | Annotated[list[TextBlock], Field(fail_fast=True, max_length=_MAX_BLOCKS)]


class ToolResultBlock(Body):
    type: Literal["tool_result"]
    tool_use_id: Id
    content: Texts = ""
    is_error: bool | None = None


UserBlock = Annotated[TextBlock | ToolResultBlock, Field(discriminator="type")]
AssistantBlock = Annotated[
    TextBlock | ThinkingBlock | RedactedThinkingBlock | ToolUseBlock, Field(discriminator="type")
]


class UserMessage(Body):
    role: Literal["user"]
    content: str | Annotated[list[UserBlock], Field(fail_fast=True, min_length=1, max_length=_MAX_BLOCKS)]


class AssistantMessage(Body):
    role: Literal["assistant"]
    content: str | Annotated[list[AssistantBlock], Field(fail_fast=True, max_length=_MAX_BLOCKS)]


class SystemMessage(Body):
    role: Literal["system"]
    content: Texts


class Tool(Body):
    """One that the client runs. Anthropic's own tools, of other types, are not here."""

    type: Literal["custom"] | None = None
    name: ToolName
    description: str = ""
    input_schema: JsonObject


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: ToolName | None = None


class Thinking(Body):
    """The model thinks or it does not; a budget is not held apart from max_tokens."""

    type: Literal["enabled", "adaptive", "between_tools", "disabled"]
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Body):
    type: Literal["json_schema"]
    schema_: JsonObject = Field(alias="schema")


class OutputConfig(Body):
    format: OutputFormat | None = None


class Metadata(Body):
    user_id: str | None = None


class Counted(Body):
    """As much as decides how many tokens the prompt has."""

    model: Name | None = None
    messages: Annotated[
        list[Annotated[UserMessage | AssistantMessage | SystemMessage, Field(discriminator="role")]],
        Field(fail_fast=True, min_length=1, max_length=_MAX_MESSAGES),
    ]
    system: Texts | None = None
    tools: list[Tool] | None = Field(None, max_length=_MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None

    @property
    def thinks(self) -> bool:
        return self.thinking is not None and self.thinking.type != "disabled"


class Asked(Counted):
    max_tokens: int = Field(ge=1, le=MAX_TOKENS)
    stop_sequences: list[Stop] | None = Field(None, max_length=16)
    stream: bool | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=MAX_TOKENS)
    metadata: Metadata | None = None

    @property
    def shows_thinking(self) -> bool:
        return self.thinks and self.thinking is not None and self.thinking.display != "omitted"
