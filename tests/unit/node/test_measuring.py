"""A node that its coordinator asks what it can do with a model."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nova.config.schema import Engine, NodeConfig
from nova.errors import ModelError
from nova.node.agent import NodeAgent
from nova.wire.messages import Measure, Measured, Message
from nova.wire.plans import NodeProfile

LIMIT_S = 5.0
CONFIG = NodeConfig(name="a", engine=Engine(cpu_blas="off"))


def found(model: str) -> NodeProfile:
    return NodeProfile("a", 1, 0.0, [(1, 0.1)], [(1, 0.0)], model)


def test_one_measurement_runs_at_a_time_and_each_is_answered(tmp_path: Path) -> None:
    running: list[str] = []
    most = 0

    async def profile(model: str, config: NodeConfig, home: Path) -> NodeProfile:
        nonlocal most
        assert (config, home) == (CONFIG, tmp_path)
        running.append(model)
        most = max(most, len(running))
        await asyncio.sleep(0)
        running.remove(model)
        if model == "bad":
            raise ModelError("model 'bad' not found")
        return found(model)

    async def scenario() -> list[Message]:
        agent, sent = NodeAgent(CONFIG, tmp_path, profile), list[Message]()
        agent.send = sent.append
        for request, model in (("1", "m"), ("2", "bad"), ("3", "n")):
            agent.received(Measure(request, model))
        async with asyncio.timeout(LIMIT_S):
            while len(sent) < 3:
                await asyncio.sleep(0)
        await agent.close()
        return sent

    assert asyncio.run(scenario()) == [
        Measured("1", found("m")), Measured("2", None, "model 'bad' not found"), Measured("3", found("n")),
    ]  # fmt: skip
    assert most == 1


def test_a_daemon_that_ends_takes_its_measurement_along(tmp_path: Path) -> None:
    ended: list[str] = []

    async def profile(model: str, config: NodeConfig, home: Path) -> NodeProfile:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(model)
        raise AssertionError

    async def scenario() -> None:
        agent = NodeAgent(CONFIG, tmp_path, profile)
        agent.received(Measure("1", "m"))
        await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT_S):
            await agent.close()

    asyncio.run(scenario())
    assert ended == ["m"]
