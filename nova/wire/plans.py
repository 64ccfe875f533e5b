"""What the planner is told and what it answers, as it goes over the control plane and into `--json`.

Times are seconds, sizes bytes. A curve is points (positions in a chunk, seconds), rising in positions; between two
points the time is interpolated, beyond the last one it goes on along the last two.
"""

from __future__ import annotations

from nova.wire.values import Record

Points = list[tuple[int, float]]


class NodeProfile(Record, frozen=True):
    """What one node can do with one model.

    `memory_bytes` is what a stage may take there: weights, caches and working space. A chunk of n positions takes
    `fixed_s` for being one, `layer_s` at n for each mean layer (others in proportion to the bytes they read), and
    `head_s` at its rows for the final norm and the projection. `bandwidth` is the memory's nominal one, 0 where
    nobody knows. `source` says where the figures are from.
    """

    name: str
    memory_bytes: int
    fixed_s: float
    layer_s: Points
    head_s: Points
    source: str
    bandwidth: float = 0.0


class LinkProfile(Record, frozen=True):
    """From one node to another, one way. `source` says where the figures are from."""

    sender: str
    receiver: str
    latency_s: float
    bandwidth_bytes_s: float
    transport: str = ""
    source: str = ""


class PlannedStage(Record, frozen=True):
    """`layers` counts them. `used_bytes` are weights, caches of the planned requests and working space; `memory_bytes`
    what there is. `step_s` is T(1), `chunk_s` is T at the planned chunk's rows; `hop_s` is the way to the next stage,
    from the last one back to the first. `roofline` is the share of the memory's nominal bandwidth that T(1) comes to,
    0 where nobody knows it."""

    node: str
    first_layer: int
    layers: int
    weight_bytes: int
    used_bytes: int
    memory_bytes: int
    step_s: float
    chunk_s: float
    hop_s: float
    roofline: float = 0.0


class Prediction(Record, frozen=True):
    """`tok_s` is one stream's, token by token; `speculative_tok_s` with guesses of `width` positions that are right
    with the planned acceptance; `aggregate_tok_s` that of the planned batch in `groups` micro-batches. `ttft_s` is the
    time to the first token behind the planned prompt, in pieces of `prefill_chunk`."""

    token_s: float
    tok_s: float
    speculative_tok_s: float
    width: int
    aggregate_tok_s: float
    groups: int
    ttft_s: float
    prefill_chunk: int


class Alternative(Record, frozen=True):
    """Another placement, and what it would give. `loss` is the share of the objective's rate that it would lose, below
    zero where it would gain; `what` names it for people."""

    what: str
    stages: list[PlannedStage]
    prediction: Prediction
    loss: float


class PlanReport(Record, frozen=True):
    """A placement and all that is to be said of it. `objective` is what the strategy came down to: "latency",
    "throughput" or "speculative", or the rule's own name. `advice` comes first for people, "" where there is none.
    `excluded` has the reason of every node that has no stage. The objective's value is at most `gap` (a share) worse
    than the best there is; 0 is proven best. `context`, `batch`, `prompt` and `acceptance` are the workload that
    the figures are for, as in `nova.plan.inputs.Workload`; 0 where the sender does not say."""

    model: str
    strategy: str
    objective: str
    stages: list[PlannedStage]
    prediction: Prediction
    bottleneck: str
    advice: str = ""
    alternatives: list[Alternative] = []
    excluded: dict[str, str] = {}
    gap: float = 0.0
    notes: list[str] = []
    context: int = 0
    batch: int = 0
    prompt: int = 0
    acceptance: float = 0.0
