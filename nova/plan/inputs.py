"""What is placed, and what for: a model in figures, and the workload that is planned. Pure values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nova.wire.plans import LinkProfile, NodeProfile

Strategy = Literal["auto", "latency", "throughput", "speculative", "spread", "memory", "manual"]


@dataclass(frozen=True)
class Layer:
    """`weight_bytes` are stored, `read_bytes` of them are read for one position (fewer where experts are chosen), and
    `flops` are done for it. A request's caches take `kv_fixed_bytes`, and `kv_token_bytes` for each position, up to
    `window` positions where that is not 0."""

    weight_bytes: int
    read_bytes: int
    flops: float
    kv_token_bytes: int
    kv_fixed_bytes: int = 0
    window: int = 0


@dataclass(frozen=True)
class ModelFigures:
    """A model as the planner sees it. `hidden_bytes` are of one position between two stages; a tied head reads the
    embedding, which the last stage then holds as well as the first. `context` is the most positions of a text, 0 where
    the model does not say."""

    name: str
    layers: tuple[Layer, ...]
    embedding_bytes: int
    head_bytes: int
    head_flops: float
    tied: bool
    hidden_bytes: int
    context: int = 0


@dataclass(frozen=True)
class Workload:
    """What a placement is to be good for. `context` and `batch` are the positions and the number of requests whose
    caches must fit; `prompt` is the length that the time to the first token is told for; `acceptance` is the
    probability that a guess is right. `head_room` is the share of every node's memory that stays free,
    `working_bytes` what a stage takes beside weights and caches."""

    context: int = 4096
    batch: int = 1
    prompt: int = 512
    acceptance: float = 0.7
    head_room: float = 0.1
    working_bytes: int = 256 << 20
    min_layers: int = 1
    """What `spread` gives a node at least."""
    prefer: Literal["stream", "many", "speculative"] = "stream"
    """What `auto` plans for: one stream's pace, that of all together, or one stream's with speculation."""


@dataclass(frozen=True)
class Question:
    """Everything that a plan depends on. `links` are directed; between two nodes without one there is no stage
    boundary. `pinned` nodes have a stage anyway; `excluded` ones none, each for its reason. `manual` is for that
    strategy: (node, layers) in pipeline order."""

    model: ModelFigures
    nodes: Sequence[NodeProfile]
    links: Sequence[LinkProfile]
    workload: Workload = Workload()
    strategy: Strategy = "auto"
    pinned: frozenset[str] = frozenset()
    excluded: dict[str, str] = field(default_factory=dict)
    manual: Sequence[tuple[str, int]] = ()
