"""A coordinator that plans: which of its nodes serve, with how many layers, and what it says of that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from nova.control.client import Client
from nova.coordinator.observed import STEPS
from nova.errors import ControlError, GenerationError
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, running
from nova.wire.plans import NodeProfile
from nova.wire.requests import Completed, Generate, PlanQuery
from nova.wire.work import Sampling
from tests.support.tiny import make_tiny

LIMIT_S = 60.0
MODEL = "emulated:m5dense"
LAYERS = 48
TOKEN_S = 0.0764
"""Of all layers, wherever they are: `nova.plan.profiles`."""


@asynccontextmanager
async def planned(home: Path, *settings: str, model: str = MODEL) -> AsyncIterator[Client]:
    """Two nodes of one machine; their layers are placed by these settings of [plan]."""
    plan = ClusterPlan(2, model, transports=["tcp"], settings=[f"plan.{each}" for each in settings])
    async with asyncio.timeout(LIMIT_S), running(plan, home) as cluster, cluster.client() as client:
        yield client


async def ask(client: Client, tokens: int) -> Completed:
    async for event in client.generate(Generate(new_request_id(), "go", tokens, Sampling(), deadline_s=LIMIT_S)):
        if isinstance(event, Completed):
            return event
    raise AssertionError("a generation ends with Completed or an error")


async def placement(client: Client) -> list[tuple[str, int]]:
    """What the engines have, which is what the plan in the status says."""
    status = await client.status()
    assert status.plan is not None
    there = [(engine.node, engine.layers) for engine in status.engines]
    assert [(stage.node, stage.layers) for stage in status.plan.stages] == there
    return there


def test_for_one_text_s_pace_one_of_two_equal_nodes_serves_alone_and_as_predicted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with planned(tmp_path, "strategy=latency") as client:
            done = await ask(client, STEPS + 2)
            assert [layers for _, layers in await placement(client)] == [LAYERS]
            assert done.transport == "none"
            status = await client.status()
            assert status.plan is not None
            assert status.plan.prediction.tok_s == pytest.approx(1 / TOKEN_S, rel=0.01)
            assert status.plan.prediction.tok_s == pytest.approx(done.decode_tok_s, rel=0.05)
            assert status.deviations == []

    asyncio.run(scenario())


def test_every_strategy_that_wants_both_nodes_is_served_by_both(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with planned(tmp_path, "strategy=throughput", "batch=8") as client:
            done = await ask(client, STEPS + 2)
            there = await placement(client)
            assert len(there) == 2
            assert sum(layers for _, layers in there) == LAYERS
            assert done.transport == "tcp"
            for strategy, stages in (("spread", 2), ("memory", 2), ("latency", 1), ("auto", 1)):
                report = await client.plan(PlanQuery(new_request_id(), strategy=strategy))
                assert len(report.stages) == stages, strategy
            asked = PlanQuery(new_request_id(), strategy="manual", measured=True)
            report = await client.plan(asked)
            assert [(stage.node, stage.layers) for stage in report.stages] == there
            assert report.prediction.tok_s == pytest.approx(done.decode_tok_s, rel=0.05)
            with pytest.raises(ControlError, match="node-9 is not here; nodes are node-1, node-2"):
                await client.plan(PlanQuery(new_request_id(), pinned=["node-9"]))
            assert await placement(client) == there, "to ask changes nothing"

    asyncio.run(scenario())


def test_nodes_are_measured_with_a_real_model_and_what_they_can_do_outlives_the_cluster(tmp_path: Path) -> None:
    model = make_tiny(tmp_path / "tiny", "llama", layers=4, eos_token_id=None)

    async def scenario() -> None:
        async with planned(tmp_path, "strategy=memory", model=str(model)) as client:
            assert (await ask(client, 4)).completion_tokens == 4
            there = await placement(client)
            assert len(there) == 2
            assert sum(layers for _, layers in there) == 4
            report = await client.plan(PlanQuery(new_request_id(), strategy="latency"))
            assert len(report.stages) == 1
            assert report.prediction.tok_s > 0

    asyncio.run(scenario())
    (kept,) = (tmp_path / "profiles").iterdir()  # nodes that are alike on one machine share it
    assert msgspec.json.decode(kept.read_bytes(), type=NodeProfile).layer_s


def test_a_request_that_waits_is_told_why_there_is_no_plan(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with planned(tmp_path, "strategy=latency", "head_room=0.9999") as client:
            with pytest.raises(GenerationError, match=r"no plan for node-1, node-2: .*node-[12]"):
                await ask(client, 1)
            status = await client.status()
            assert (status.state, status.plan, status.engines) == ("failed", None, [])

    asyncio.run(scenario())
