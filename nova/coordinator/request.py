"""One request as the coordinator works on it, and what may be asked at all. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from nova.coordinator.breakdown import Tally
from nova.coordinator.model import ServedModel
from nova.coordinator.pieces import Pieces
from nova.coordinator.texts import stranger
from nova.model.tokenizer import well_formed
from nova.wire.codec import MAX_BODY_BYTES
from nova.wire.requests import Generate
from nova.wire.work import Sampling

MAX_NEW_TOKENS = 1 << 20
MAX_NAME = 200
MAX_DEADLINE_S = 7 * 86400.0
MAX_STOPS = 16
MAX_STOP = 1024
"""Characters of a stop string."""
MAX_STOP_TOKENS = 256
MAX_BIASES = 4096
MAX_GRAMMAR = 1 << 18
"""Characters, of 4 bytes at most."""
MAX_LOGPROBS = 20
POOLS = ("", "mean", "last")

BEGIN_BYTES = MAX_BODY_BYTES - 4 * MAX_GRAMMAR - (1 << 18)
"""Of a message to the driver: what is left for the prompt. A token takes 5 bytes at most."""


@dataclass(eq=False)
class Request:
    """One request of one client. Times are monotonic seconds; `prompt` is empty until it is encoded."""

    session: int
    generate: Generate
    asked: float
    stream_id: int
    prompt: list[int] = field(default_factory=list)
    max_tokens: int = 0
    """None for one vector (`Generate.pool`)."""
    stop_tokens: frozenset[int] = frozenset()
    vocabulary: int = 0
    pieces: Pieces | None = None
    begun: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0
    tokens: int = 0
    cached: int = 0
    tally: Tally = field(default_factory=Tally)

    @property
    def deadline(self) -> float:
        return self.asked + self.generate.deadline_s

    @property
    def positions(self) -> int:
        """The most that its caches may hold."""
        return len(self.prompt) + self.max_tokens

    def encoded(self, prompt: list[int], model: ServedModel, default_max_tokens: int) -> None:
        """Its prompt is in tokens, and fits the model (`misfit`)."""
        generate = self.generate
        if not generate.pool:
            self.max_tokens = generate.max_tokens or min(default_max_tokens, model.context - len(prompt))
        self.stop_tokens = frozenset(generate.stop_tokens)
        if not generate.ignore_eos:
            self.stop_tokens |= frozenset(model.stop_tokens)
        self.pieces = Pieces(model.text.stream(), generate.stop, self.stop_tokens)
        self.prompt, self.vocabulary = prompt, model.vocabulary


def invalid(generate: Generate) -> str:
    """Why nobody could be served this; "" where it is well-formed."""
    checks = (
        (1 <= len(generate.request) <= MAX_NAME, f"a request's name has 1 to {MAX_NAME} characters"),
        (
            all(map(well_formed, (generate.request, generate.grammar, *generate.stop))),
            "a request's name, its grammar and its stop strings are Unicode text, without half of a surrogate pair",
        ),
        (
            0 <= generate.max_tokens <= MAX_NEW_TOKENS,
            f"max_tokens is {generate.max_tokens}, expected 0 (the default) to {MAX_NEW_TOKENS}",
        ),
        # Not NaN, which would never pass.
        (
            0 < generate.deadline_s <= MAX_DEADLINE_S,
            f"the deadline is {generate.deadline_s:g} s, expected more than 0, at most {MAX_DEADLINE_S:g}",
        ),
        (
            len(generate.stop) <= MAX_STOPS and all(1 <= len(each) <= MAX_STOP for each in generate.stop),
            f"stop takes up to {MAX_STOPS} strings of 1 to {MAX_STOP} characters",
        ),
        (len(generate.stop_tokens) <= MAX_STOP_TOKENS, f"stop_tokens takes up to {MAX_STOP_TOKENS} tokens"),
        (len(generate.grammar) <= MAX_GRAMMAR, f"the grammar is longer than {MAX_GRAMMAR} characters"),
        (generate.pool in POOLS, f"pool is {generate.pool[:40]!r}, expected mean or last"),
    )
    return next((why for holds, why in checks if not holds), "") or _unusable(generate.sampling)


def _unusable(sampling: Sampling) -> str:
    ranges = (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("top_k", sampling.top_k, 0, MAX_NEW_TOKENS),
        ("repetition_context", sampling.repetition_context, 0, MAX_NEW_TOKENS),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
        ("logprobs", sampling.logprobs, -1, MAX_LOGPROBS),
        ("seed", sampling.seed, -(1 << 63), (1 << 64) - 1),
    )
    for name, value, least, most in ranges:
        if not least <= value <= most:
            return f"{name} is {value:g}, expected {least:g} to {most:g}"
    if not 0.0 < sampling.top_p <= 1.0:
        return f"top_p is {sampling.top_p:g}, expected more than 0, at most 1"
    if not 0.0 < sampling.repetition_penalty <= 100.0:
        return f"repetition_penalty is {sampling.repetition_penalty:g}, expected more than 0, at most 100"
    if len(sampling.logit_bias) > MAX_BIASES:
        return f"logit_bias names {len(sampling.logit_bias)} tokens, expected at most {MAX_BIASES}"
    if not all(isfinite(bias) and abs(bias) <= 100.0 for bias in sampling.logit_bias.values()):
        return "a logit_bias is -100 to 100"
    return ""


def misfit(generate: Generate, prompt: Sequence[int], model: ServedModel) -> tuple[str, str]:
    """The code and the reason why this model cannot continue this prompt; "" and "" where it can."""
    if not prompt:
        return "invalid", "the prompt is empty: give at least one token of text"
    if len(prompt) * 5 > BEGIN_BYTES:
        return "too_long", f"the prompt has {len(prompt)} tokens, and a message takes {BEGIN_BYTES // 5} of them"
    least = 0 if generate.pool else generate.max_tokens or 1
    if len(prompt) + least > model.context:
        asked = f"{len(prompt)} tokens of prompt" + ("" if generate.pool else f" + {least} of text")
        return (
            "too_long",
            f"{asked} do not fit the model's context of {model.context}: shorten the prompt or max_tokens",
        )
    named = (  # looked at last: a prompt that is far too long is not gone through
        ("the prompt", prompt),
        ("stop_tokens", generate.stop_tokens),
        ("logit_bias", generate.sampling.logit_bias),
    )
    for what, tokens in named:
        if (strange := stranger(tokens, model.vocabulary)) is not None:
            return "invalid", f"{what} has token {strange}, and the model has {model.vocabulary}"
    return "", ""
