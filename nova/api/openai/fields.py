"""Fields that several routes of the OpenAI API share, with their limits.

Fields that are not known are left alone, since clients send many; a field of the wrong type is refused by its name.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from nova.api.ask import sampling, seeds
from nova.api.gate import Gate
from nova.coordinator.port import ModelFacts
from nova.ids import new_request_id
from nova.wire.requests import Generate

MAX_CHOICES = 64
"""Choices of one request, over all its prompts: as many as may wait by default (deployment.queued)."""
MAX_DEPTH = 64
"""Objects and arrays inside each other, in what is passed on as it is."""
MAX_TOKENS = 1 << 20
MAX_BIASES = 1024


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """JSON that can be written again: not too deep, no NaN or infinity, no half of a surrogate pair.

    Raises ValueError.
    """
    match value:
        case dict():
            for key, item in value.items():
                plain(key, depth)
                plain(item, _deeper(depth))
        case list():
            for item in value:
                plain(item, _deeper(depth))
        case str():
            value.encode()
        case float() if not math.isfinite(value):
            raise ValueError("not a finite number")
    return value


def _deeper(depth: int) -> int:
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} objects and arrays inside each other")
    return depth - 1


def at_most(entries: int) -> BeforeValidator:
    """For a dict: a larger one is refused as a whole. pydantic's own limit comes after an objection to each entry."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > entries:
            raise ValueError(f"more than {entries} entries")
        return value

    return BeforeValidator(check)


JsonObject = Annotated[dict[str, Any], AfterValidator(plain)]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(fail_fast=True, min_length=1, max_length=MAX_TOKENS)
]
"""The first wrong one ends the reading: a million of them would be a million objections."""
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Name = Annotated[str, Field(max_length=256)]


class Body(BaseModel):
    """Types are not converted: "0.5" is no number."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Asked(Body):
    """`model` is the served one, or left out."""

    model: Name | None = None
    user: str | None = None


class StreamOptions(Body):
    include_usage: bool | None = None


class Sampled(Asked):
    """How text is generated. What is left out is the model's own (generation_config.json), then OpenAI's default."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=MAX_TOKENS, description="0 or -1: all tokens")
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    logit_bias: Annotated[
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Annotated[float, Field(ge=-100, le=100)]] | None,
        at_most(MAX_BIASES),
    ] = Field(None, max_length=MAX_BIASES, description="token id: bias")
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def usage_streamed(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def asks(
        self, model: ModelFacts, gate: Gate, prompt: list[int], *, limit: int | None, logprobs: int = -1,
        grammar: str = "",
    ) -> list[Generate]:  # fmt: skip
        """One request for each of the `n` choices; they differ in their seeds. `limit` is in tokens."""
        given: dict[str, Any] = {
            "temperature": self.temperature, "top_p": self.top_p, "min_p": self.min_p,
            "top_k": self.top_k and max(self.top_k, 0),
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty, "logprobs": logprobs,
            "logit_bias": self.logit_bias and {int(token): bias for token, bias in self.logit_bias.items()},
        }  # fmt: skip
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [
            Generate(
                new_request_id(), prompt, limit or 0, sampling(model, seed, given), deadline_s=gate.deadline_s,
                stop=stop, ignore_eos=bool(self.ignore_eos), grammar=grammar,
            )
            for seed in seeds(self.seed, self.n or 1)
        ]  # fmt: skip
