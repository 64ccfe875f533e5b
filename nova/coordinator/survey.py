"""What nodes can do with a model: each is asked over the control plane, and measures itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import inf

import msgspec

from nova.errors import PlanError
from nova.ids import new_request_id
from nova.wire.messages import Measure, Measured, Message
from nova.wire.plans import NodeProfile, Points

LIMIT_S = 100.0
"""A node takes some ten seconds, and gives up by itself earlier than this (`nova.node.profiling`)."""
MAX_POINTS = 64
MAX_REASON_CHARS = 500


class Survey:
    """`send(node, message)` must not raise; `machine(node)` names the machine that a node runs on."""

    def __init__(self, send: Callable[[str, Message], None], machine: Callable[[str], str]) -> None:
        self._send = send
        self._machine = machine
        self._awaited: dict[tuple[str, str], asyncio.Future[Measured]] = {}

    async def profiles(self, nodes: Sequence[str], model: str) -> list[NodeProfile]:
        """Of every node; those of one machine one after the other, since they would measure each other.

        Raises PlanError that names every node without a profile, and why it has none.
        """
        machines: dict[str, list[str]] = {}
        for node in nodes:
            machines.setdefault(self._machine(node), []).append(node)
        answers = await asyncio.gather(*(self._in_turn(each, model) for each in machines.values()))
        found = [each for machine in answers for each in machine]
        if reasons := [each for each in found if isinstance(each, str)]:
            raise PlanError("; ".join(reasons))
        return [each for each in found if isinstance(each, NodeProfile)]

    def measured(self, node: str, measured: Measured) -> None:
        """A node's answer; one that nobody waits for is dropped."""
        answer = self._awaited.get((node, measured.request))
        if answer is not None and not answer.done():
            answer.set_result(measured)

    def node_left(self, node: str, why: str) -> None:
        for (awaited, request), answer in self._awaited.items():
            if awaited == node and not answer.done():
                answer.set_result(Measured(request, reason=f"it left: {why}"))

    async def _in_turn(self, nodes: Sequence[str], model: str) -> list[NodeProfile | str]:
        return [await self._node(node, model) for node in nodes]

    async def _node(self, node: str, model: str) -> NodeProfile | str:
        """The profile, or why there is none."""
        request = new_request_id()
        answer = self._awaited[node, request] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(LIMIT_S):
                self._send(node, Measure(request, model))
                measured = await answer
        except TimeoutError:
            return f"node {node} could not be measured: no answer within {LIMIT_S:g} s, see its log"
        finally:
            del self._awaited[node, request]
        if measured.profile is None:
            return f"node {node} could not be measured: {measured.reason[:MAX_REASON_CHARS] or 'it gave no reason'}"
        if why := _strange(measured.profile):
            return f"node {node} measured {why}: run the same Nova on all nodes"
        profile: NodeProfile = msgspec.structs.replace(measured.profile, name=node)
        return profile


def _strange(profile: NodeProfile) -> str:
    """What cannot be a node's figures; "" for what can."""
    for what, number in (("fixed_s", profile.fixed_s), ("bandwidth", profile.bandwidth)):
        if not 0.0 <= number < inf:
            return f"{what} {number}"
    if profile.memory_bytes < 0:
        return f"{profile.memory_bytes} bytes of memory"
    return _strange_curve("layer_s", profile.layer_s) or _strange_curve("head_s", profile.head_s)


def _strange_curve(what: str, points: Points) -> str:
    if not 0 < len(points) <= MAX_POINTS:
        return f"{len(points)} points of {what}"
    if not all(at >= 1 and 0.0 <= seconds < inf for at, seconds in points):
        return f"{what} {points}"
    return "" if all(here[0] < there[0] for here, there in pairwise(points)) else f"{what} that does not rise"
