"""Questions for the planner's tests: the report's machines, and random small clusters."""

from __future__ import annotations

from random import Random

from nova.plan.inputs import Layer, ModelFigures, Question, Workload
from nova.wire.plans import LinkProfile, NodeProfile

GIB = 1 << 30


def node(
    name: str, layer_ms: float, *, head_ms: float = 0.0, fixed_ms: float = 0.0, gib: float = 1000, rise: float = 0.1
) -> NodeProfile:
    """A node whose chunks cost the share `rise` of one position more for each further one."""
    layer_s = [(width, layer_ms / 1e3 * (1 + rise * (width - 1))) for width in (1, 2, 4, 8, 256, 512)]
    return NodeProfile(name, int(gib * GIB), fixed_ms / 1e3, layer_s, [(1, head_ms / 1e3)], "test")


def links(names: list[str], latency_ms: float = 0.0, bandwidth: float = 0.0) -> list[LinkProfile]:
    """Between all pairs, both ways."""
    return [LinkProfile(a, b, latency_ms / 1e3, bandwidth) for a in names for b in names if a != b]


def model(layers: int, layer_bytes: int = GIB, head_bytes: int = 0, embedding_bytes: int = 0) -> ModelFigures:
    layer = Layer(layer_bytes, layer_bytes, 0.0, 0)
    return ModelFigures("test", (layer,) * layers, embedding_bytes, head_bytes, 0.0, False, 16384)


def seed(**changes: object) -> Question:
    """The report's cluster: the worker takes 3 ms a layer and 12 ms for the head, the coordinator 70 ms whatever its
    layers, and 3 ms go for sending."""
    nodes = [node("max", 0.0, fixed_ms=70), node("mini", 3.0, head_ms=12)]
    hops = [LinkProfile("max", "mini", 0.003, 0.0), LinkProfile("mini", "max", 0.0, 0.0)]
    workload = Workload(min_layers=8, head_room=0.0)
    values = {"strategy": "spread", **changes}
    return Question(model(66), nodes, hops, workload, **values)  # type: ignore[arg-type]


def random_question(random: Random, nodes: int, layers: int, batch: int = 1) -> Question:
    """A cluster whose memory is tight and whose links are uneven, some of them missing."""
    names = [f"n{number}" for number in range(nodes)]
    parts = tuple(
        Layer(size, size, 0.0, random.choice([0, 1000]), random.choice([0, 50]))
        for size in (random.randint(500, 2000) for _ in range(layers))
    )
    figures = ModelFigures(
        "random", parts, random.randint(0, 3000), random.randint(0, 3000), 0.0, random.random() < 0.5, 1000
    )
    workload = Workload(context=random.choice([1, 4]), batch=batch, working_bytes=100, head_room=0.05)
    cache = workload.batch * workload.context * 1000 * layers
    whole = sum(layer.weight_bytes for layer in parts) + figures.embedding_bytes * 2 + figures.head_bytes + cache
    profiles = []
    for name in names:
        rise, layer_s = random.uniform(0.05, 1), random.uniform(0.001, 0.02)
        curve = [(width, layer_s * (1 + rise * (width - 1))) for width in (1, 2, 3, 4, 8)]
        head = [(1, random.uniform(0, 0.02))]
        room = int(whole * random.uniform(0.2, 1.2))
        profiles.append(NodeProfile(name, room, random.uniform(0, 0.02), curve, head, "random"))
    ways = [
        LinkProfile(a, b, random.uniform(0, 0.02), random.uniform(1e5, 1e7))
        for a in names
        for b in names
        if a != b and random.random() < 0.9
    ]
    return Question(figures, profiles, ways, workload)
