"""What is asked of a pipeline, and what came of it: the values of the messages that go with every chunk.

Times are seconds unless a name ends in _ns, _us or _ms; sizes are bytes.
"""

from __future__ import annotations

from nova.wire.values import Record


class Sampling(Record, frozen=True):
    """How tokens are chosen; temperature 0 is greedy.

    A penalty of 0 (of 1 for repetition) is none. The repetition penalty looks at the last `repetition_context`
    tokens of prompt and text, presence and frequency at all generated ones. `logprobs` is how many alternatives are
    reported with each token: -1 reports nothing, 0 the token's own log-probability only.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_context: int = 20
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    logprobs: int = -1


class TokenLogprob(Record, frozen=True):
    """A sampled token's log-probability, after penalties and bias, and the most probable tokens there with theirs."""

    token: int
    logprob: float
    top: list[tuple[int, float]] = []


class Outcome(Record, frozen=True):
    """What a chunk brought to one request. `tokens` are in order; `finish` is "" while it goes on, else "stop",
    "length" or "cancelled". `cached` is how many tokens of the prompt were found in the prefix cache; it is told with
    the first token."""

    stream: int
    tokens: list[int] = []
    finish: str = ""
    logprobs: list[TokenLogprob] = []
    cached: int = 0


class ChunkTiming(Record, frozen=True):
    """One pass of a chunk through all stages, as its driver saw it.

    `rows` are the (stream, position of its first token) of each request in the chunk, `width` the number of tokens of
    each. `hops` has per stage: received_ns (that stage's clock), waited_us, compute_us. `sent_ns` is when the driver
    sent the chunk to stage 0 and `done_ns` when its tokens were sampled, both on the driver's clock. `nbytes` is the
    size of the hidden state that went from stage to stage, 0 where there was none.
    """

    rows: list[tuple[int, int]]
    width: int
    prefill: bool
    sent_ns: int
    done_ns: int
    hops: list[tuple[int, int, int]]
    nbytes: int = 0
