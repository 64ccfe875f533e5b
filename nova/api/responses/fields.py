"""What a request to /v1/responses holds. Fields that are not known are left alone; what would be wrong to leave alone,
and wrong types, are refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from nova.api.openai.fields import MAX_TOKENS, Asked, Body, JsonObject, Name, at_most

_MAX_ITEMS = 4096
_MAX_PARTS = 4096
_MAX_TOOLS = 128
_MAX_METADATA = 64

ToolName = Annotated[str, Field(min_length=1, max_length=256)]


class TextPart(Body):
    type: Literal["input_text", "output_text", "reasoning_text", "summary_text", "text"]
    text: str


class RefusalPart(Body):
    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Content = str | Annotated[list[Part], Field(fail_fast=True, max_length=_MAX_PARTS)]


class MessageItem(Body):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class CallItem(Body):
    type: Literal["function_call"]
    call_id: Name
    name: ToolName
    arguments: str = Field(description="a JSON object")


class CallOutputItem(Body):
    type: Literal["function_call_output"]
    call_id: Name
    output: Content


class ReasoningItem(Body):
    """Reasoning of an earlier turn; `encrypted_content` is another server's and cannot be read here."""

    type: Literal["reasoning"]
    summary: list[TextPart] = Field([], fail_fast=True, max_length=_MAX_PARTS)
    content: list[TextPart] | None = Field(None, fail_fast=True, max_length=_MAX_PARTS)


def _kind(item: Any) -> str | None:
    """A message may come without its type."""
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind),
]


class Tool(Body):
    """A function that the client runs. Tools of other types run on OpenAI's servers."""

    type: Literal["function"]
    name: ToolName
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None


class NamedTool(Body):
    type: Literal["function"]
    name: ToolName


class Format(Body):
    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    schema_: JsonObject | None = Field(None, alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextConfig(Body):
    format: Format | None = None
    verbosity: Name | None = None


class Reasoning(Body):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Name | None = None


class Create(Asked):
    """`background`, `conversation`, `prompt` and `top_logprobs` are refused."""

    input: str | Annotated[list[Item], Field(fail_fast=True, min_length=1, max_length=_MAX_ITEMS)]
    instructions: str | None = None
    tools: list[Tool] | None = Field(None, max_length=_MAX_TOOLS)
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    previous_response_id: Name | None = None
    store: bool | None = None
    stream: bool | None = None
    metadata: Annotated[dict[str, str] | None, at_most(_MAX_METADATA)] = Field(None, max_length=_MAX_METADATA)
    truncation: Literal["auto", "disabled"] | None = None
    background: Literal[False] | None = None
    conversation: None = None
    prompt: None = None
    top_logprobs: Literal[0] | None = None
