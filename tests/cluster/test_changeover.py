"""A transport that failed is tried again beside the group that serves, and takes over once it works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nova.clock import Deadline
from nova.control.client import Client
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, running
from nova.wire.requests import Completed, ExplainReply, Generate
from nova.wire.work import Sampling
from tests.support.plugin import installed

MOODY = Path(__file__).parents[1] / "support" / "plugins" / "moody"
LIMIT_S = 40.0
LOOK_S = 0.05


@asynccontextmanager
async def deployment(tmp_path: Path, mended: Path) -> AsyncIterator[Client]:
    """Two nodes that are told to use moody, then tcp."""
    settings = ["transport.hold_s=0.5", f'transport.options.moody.mended="{mended}"']
    plan = ClusterPlan(2, "emulated:seed", transports=["moody", "tcp"], settings=settings)
    async with running(plan, tmp_path) as cluster, cluster.client() as client:
        yield client


async def ask(client: Client, tokens: int) -> str:
    """The transport over which a request was served. Raises GenerationError."""
    async for event in client.generate(Generate(new_request_id(), "go", tokens, Sampling(), deadline_s=LIMIT_S)):
        if isinstance(event, Completed):
            return event.transport
    raise AssertionError("the request ended without an end")


async def until(client: Client, holds: Callable[[ExplainReply], bool]) -> ExplainReply:
    deadline = Deadline.after(LIMIT_S)
    while not holds(reply := await client.explain()):
        assert not deadline.expired, reply
        await asyncio.sleep(LOOK_S)
    return reply


@pytest.fixture(autouse=True)
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's plugin counts as installed in every process that is started."""
    source = tmp_path / "moody"
    source.mkdir()
    for file in MOODY.iterdir():
        if file.is_file():
            (source / file.name).write_text(file.read_text())
    monkeypatch.setenv("PYTHONPATH", installed(source)["PYTHONPATH"])


def test_a_mended_transport_takes_over_between_requests_and_disturbs_none(tmp_path: Path) -> None:
    mended = tmp_path / "mended"

    async def scenario() -> None:
        async with deployment(tmp_path, mended) as client:
            assert await ask(client, 3) == "tcp"
            status = await client.status()
            pids = [engine.pid for engine in status.engines]
            await until(client, lambda reply: any(each.trial and each.outcome == "failed" for each in reply.attempts))
            assert await ask(client, 3) == "tcp"
            assert [engine.pid for engine in (await client.status()).engines] == pids

            long = asyncio.create_task(ask(client, 25))
            mended.touch()
            await until(client, lambda reply: any(each.trial and each.outcome == "ended" for each in reply.attempts))
            assert await long == "tcp", "a request that runs is not disturbed"
            reply = await until(client, lambda reply: (reply.state, reply.transport) == ("serving", "moody"))
            assert await ask(client, 3) == "moody"
            outcomes = [(each.transport, each.outcome) for each in reply.attempts]
            assert outcomes[0] == ("moody", "failed")
            assert outcomes[-1] == ("moody", "serving")
            assert ("tcp", "ended") in outcomes

    asyncio.run(scenario())
