"""What a placement gives: the seconds of its stages and hops, and the rates. Pure.

With L the seconds of a chunk through all stages and hops and back, and tau those of the slowest of them: one stream has
1 / L; B requests in G groups of b rows have B / max(L(b), G tau(b)); guesses of w positions that are right with
probability alpha have 1 / (1 - alpha) tokens in L(w) + tau(w) alpha^w / (1 - alpha^w); and a prompt in C pieces of c is
through after L(c) + (C - 1) tau(c).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf
from typing import Literal

from nova.plan.costmodel import CostModel, Split, spans
from nova.plan.costmodel import at as at
from nova.plan.inputs import Question
from nova.plan.split import check_split
from nova.wire.plans import PlannedStage, Prediction

Goal = Literal["latency", "throughput", "speculative"]
"""One stream's pace, that of the batch together, or one stream's with guesses."""
WIDTHS = (1, 2, 3, 4)
"""Positions of a speculative chunk; wider ones cost more than they bring (T(8) is 2.2 to 3.3 times T(1) on the profiles
of `nova.plan.profiles`)."""
LEAST_PIECE = 256
"""Tokens of a prompt's piece: profiles know pieces of 64, 256 and 512, and smaller ones cost more for each token."""


@dataclass(frozen=True)
class Choice:
    """A placement, by an objective or a rule, and the goal that it is compared with others by. It may miss the goal's
    best by the share `gap`."""

    objective: str
    goal: Goal
    split: Split
    gap: float = 0.0


def predict(question: Question, placement: Split) -> tuple[list[PlannedStage], Prediction]:
    """What the placement gives. Raises PlanError for an unknown node and for stages without a link between them; it
    does not look at the memory."""
    return forecast(CostModel(question), placement)


def forecast(cost: CostModel, placement: Split) -> tuple[list[PlannedStage], Prediction]:
    """`predict` where the question is already indexed."""
    names, workload = [name for name, _ in placement], cost.workload
    check_split([count for _, count in placement], len(cost.shares), len(placement))
    cost.check_links(names)
    token = cost.pace(placement, 1, 1)
    width, speculative = best_width(cost, placement)
    groups, aggregate = best_groups(cost, placement)
    piece, prefill_s = best_piece(cost, placement)
    rows = ceil(workload.batch / groups)
    stages = []
    for (name, (first, stop)), following in zip(spans(placement), [*names[1:], ""], strict=True):
        stages.append(
            PlannedStage(
                name, first, stop - first, cost.weight_bytes(first, stop), cost.used_bytes(first, stop),
                cost.node(name).memory_bytes, cost.stage_s(name, first, stop, 1, 1),
                cost.stage_s(name, first, stop, rows, rows),
                cost.hop_s(name, following, 1) if following else cost.back_s(name, names[0]),
                cost.roofline(name, first, stop),
            )
        )  # fmt: skip
    tok_s = _rate(1, token.total_s)
    return stages, Prediction(
        token.total_s, tok_s, speculative, width, aggregate, groups, prefill_s + token.total_s, piece
    )


def rate(prediction: Prediction, goal: Goal) -> float:
    """Tokens per second that the goal is about."""
    match goal:
        case "latency":
            return prediction.tok_s
        case "throughput":
            return prediction.aggregate_tok_s
        case "speculative":
            return prediction.speculative_tok_s


def goal_rate(cost: CostModel, split: Split, goal: Goal) -> float:
    """The same without the rest of the prediction; 0 where stages have no link."""
    match goal:
        case "latency":
            return _rate(1, cost.pace(split, 1, 1).total_s)
        case "throughput":
            return best_groups(cost, split)[1]
        case "speculative":
            return best_width(cost, split)[1]


def best_width(cost: CostModel, split: Split) -> tuple[int, float]:
    """The width of speculative chunks, and tokens per second with it: an epoch of L + tau alpha^w / (1 - alpha^w)
    seconds brings 1 / (1 - alpha) tokens, with L and tau of a chunk of w positions."""
    alpha = cost.workload.acceptance
    seconds = {w: epoch_s(*cost.pace(split, w, w), chunks_behind(alpha, w)) for w in WIDTHS}
    width = min(seconds, key=seconds.__getitem__)
    return width, _rate(1 / (1 - alpha), seconds[width])


def chunks_behind(alpha: float, width: int) -> float:
    """How many chunks follow an epoch's first one before a guess is wrong, in the mean. `alpha` is below 1."""
    return alpha**width / (1 - alpha**width)


def epoch_s(total_s: float, slowest_s: float, behind: float) -> float:
    return total_s + behind * slowest_s


def best_groups(cost: CostModel, split: Split) -> tuple[int, float]:
    """Into how many groups the batch is best divided, and tokens per second of all together: the fewest of equals."""
    batch = cost.workload.batch
    seconds = {groups: cycle_s(*cost.pace(split, rows, rows), groups) for rows, groups in divisions(batch)}
    groups = min(seconds, key=seconds.__getitem__)
    return groups, _rate(batch, seconds[groups])


def divisions(batch: int) -> list[tuple[int, int]]:
    """(rows, groups) for each number of groups that is the least one with so many rows."""
    sizes: dict[int, int] = {}
    for groups in range(1, batch + 1):
        sizes.setdefault(ceil(batch / groups), groups)
    return list(sizes.items())


def cycle_s(total_s: float, slowest_s: float, groups: int) -> float:
    """Between a group's tokens: as long as one takes to come round, or all of them take on the slowest."""
    return max(total_s, groups * slowest_s)


def best_piece(cost: CostModel, split: Split) -> tuple[int, float]:
    """The size of a prompt's pieces, and the seconds until they have passed: C pieces of c take all stages and hops
    once, and the slowest C - 1 times more. No piece needs the head: the first token comes from the step behind them."""
    prompt = max(cost.workload.prompt, 1)
    seconds: dict[int, float] = {}
    pieces = 1
    while not seconds or ceil(prompt / pieces) >= LEAST_PIECE:
        size = ceil(prompt / pieces)
        total, slowest = cost.pace(split, size, 0)
        seconds[size] = total + (ceil(prompt / size) - 1) * slowest
        pieces += 1 + pieces // 16
    size = min(seconds, key=seconds.__getitem__)
    return size, seconds[size]


def _rate(tokens: float, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else inf
