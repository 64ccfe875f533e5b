"""The whole cluster at one moment, as `nova status` shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nova import __version__
from nova.control.session import Session
from nova.coordinator.deployment import Deployment
from nova.coordinator.planning import Planning
from nova.wire.requests import ExplainReply, StatusReply
from nova.wire.values import EngineStatus, NodeStatus


def status(
    request: str,
    coordinator: str,
    model: str,
    deployment: Deployment,
    sessions: Sequence[Session],
    counters: Mapping[str, int],
    problem: str,
    planning: Planning,
    now: float,
) -> StatusReply:
    """`problem` is why there is no model to serve, "" when there is one."""
    workers = {session.name: session for session in sessions if session.role == "worker"}
    names = [*deployment.nodes, *(name for name in workers if name not in deployment.nodes)]
    return StatusReply(
        request=request,
        coordinator=coordinator,
        nova=__version__,
        model=model,
        state="failed" if problem else _state(deployment, planning),
        transport=deployment.transport,
        generation=deployment.generation,
        rejected=deployment.choice.selection.rejected,
        nodes=[_node(name, workers.get(name), now) for name in names],
        engines=[
            EngineStatus(
                each.key, each.node, "ended" if each.ended else each.phase, each.pid, each.first_layer, each.layers,
                each.weight_bytes, each.memory_bytes, each.detail, each.log_tail,
            )
            for each in deployment.engines.values()
        ],
        counters=dict(counters),
        reasons=[problem] if problem else [*deployment.reasons, *_present(deployment, planning)],
        plan=planning.report,
        deviations=planning.deviations,
    )  # fmt: skip


def explain(request: str, deployment: Deployment, now: float) -> ExplainReply:
    """Why this transport: what was judged how, and how each attempt went."""
    if not deployment.missing and len(deployment.nodes) > 1:
        deployment.choice.look(now)
    in_use = deployment.transport if deployment.state in ("forming", "serving") else ""
    candidates = deployment.choice.report(in_use, now)
    attempts = deployment.attempts(now)
    why_not = "" if deployment.state == "serving" else deployment.why_not
    return ExplainReply(
        request, deployment.state, deployment.nodes, deployment.transport, candidates, attempts, why_not
    )


def _state(deployment: Deployment, planning: Planning) -> str:
    """Before the layers are placed there is more to wait for than the deployment knows."""
    if deployment.split or deployment.state != "waiting":
        return deployment.state
    return "opening" if not planning.begun else "waiting" if deployment.missing else "planning"


def _present(deployment: Deployment, planning: Planning) -> list[str]:
    """What it waits for now, where the last failure does not say it."""
    told = deployment.state in ("serving", "stopped") or (deployment.state == "failed" and not deployment.missing)
    if told or _state(deployment, planning) == "opening":
        return []
    missing = ", ".join(deployment.missing)
    return [f"waiting for {missing} to join"] if missing else [deployment.why_not]


def _node(name: str, session: Session | None, now: float) -> NodeStatus:
    if session is None:
        return NodeStatus(name, "missing", 0.0, 0.0, 0, None, [])
    facts = session.hello.facts
    memory = facts.memory_bytes if facts is not None else 0
    rtt_ms = (session.rtt_s or 0.0) * 1000
    return NodeStatus(name, "up", session.age(now), rtt_ms, memory, facts, session.offers)
