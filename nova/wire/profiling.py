"""What a daemon asks the process that measures a node, and its answer: one line of JSON each."""

from __future__ import annotations

from nova.wire.plans import NodeProfile
from nova.wire.values import Record

MAX_ANSWER_BYTES = 64 << 10


class ProfileRequest(Record, frozen=True):
    """`name` is the node's, `folder` holds the model, `cpus` are to be used, all if empty. Measuring is to take
    `budget_s`, the start of the process and its imports included; whoever asks waits for `limit_s`."""

    name: str
    folder: str
    kv_bits: int
    cpus: list[int]
    budget_s: float
    limit_s: float


class ProfileAnswer(Record, frozen=True):
    """One of the three: the profile, what is wrong with the model, or what was raised that nobody had foreseen.

    The profile's `memory_bytes` is the most that MLX may ever take there, whatever is free.
    """

    profile: NodeProfile | None = None
    wrong_model: str = ""
    raised: str = ""
