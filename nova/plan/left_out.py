"""Why a node has no stage, and the placement nearest to the chosen one that gives it one. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from nova.plan import rules
from nova.plan.costmodel import CostModel, Split
from nova.plan.inputs import Question
from nova.plan.predict import Choice, goal_rate

UNIT = {"latency": "one stream", "throughput": "all streams together", "speculative": "one stream with guesses"}


def left_out(question: Question, cost: CostModel, choice: Choice) -> tuple[dict[str, str], dict[str, Split]]:
    """The reason of every node without a stage; and, named for people, the best placement with one of them more."""
    reasons = dict(question.excluded)
    used = {name for name, _ in choice.split}
    reached = goal_rate(cost, choice.split, choice.goal)
    joined: list[tuple[float, str, Split]] = []
    for name in cost.nodes:
        if name in used or name in reasons:
            continue
        linked = [other for other in used if {(name, other), (other, name)} <= cost.links.keys()]
        placements = [split for split in _with(choice.split, name) if not rules.lacks(cost, split)]
        rates = [(goal_rate(cost, split, choice.goal), split) for split in placements]
        rate, split = max(rates, key=lambda one: one[0], default=(0.0, choice.split))
        if choice.objective == "manual":
            reasons[name] = "the manual plan gives it no layers"
        elif not linked:
            reasons[name] = f"no link, there and back, to {' or '.join(sorted(used)[:3])}"
        elif rate == 0:
            reasons[name] = "no layer fits there, or no place in the pipeline has the links for it"
        else:
            reasons[name] = _not_needed(choice, reached, rate)
        if rate > 0:
            joined.append((rate, f"with one layer on {name}", split))
    best = max(joined, key=lambda one: one[0], default=None)
    return reasons, {best[1]: best[2]} if best else {}


def _with(split: Split, name: str) -> Iterator[Split]:
    """Every placement that takes one layer for `name` from one stage and puts it before or behind that."""
    for index, (neighbour, count) in enumerate(split):
        if count > 1:
            less = (neighbour, count - 1)
            yield [*split[:index], (name, 1), less, *split[index + 1 :]]
            yield [*split[:index], less, (name, 1), *split[index + 1 :]]


def _not_needed(choice: Choice, reached: float, rate: float) -> str:
    if rate > reached:
        share = rate / reached - 1
        return f"the search, within {choice.gap:.1%} of the best, left it out: one layer there would gain {share:.1%}"
    if choice.goal == "latency":
        return f"not needed: with one layer there a token would take {(1 / rate - 1 / reached) * 1e3:.1f} ms longer"
    return f"not needed: with one layer there {UNIT[choice.goal]} would get {rate:.1f} tok/s, not {reached:.1f}"
