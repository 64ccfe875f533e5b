"""`nova transports check --on` and `nova explain`, as a user types them against a cluster that goes on serving."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

from nova.control.client import Client
from nova.ids import new_request_id
from nova.local.cluster import ClusterPlan, LocalCluster, marked, running, setting
from nova.wire.requests import Completed, Generate
from nova.wire.work import Sampling

LIMIT_S = 100.0
NODES = "node-1,node-2"
PLAN = ClusterPlan(2, "emulated:seed", transports=["tcp"], settings=["transport.order=['tcp']"])
REFUSED = [
    (("tcp", "--on", "node-1,node-9"), "--on: node-9 is not there; nodes are node-1, node-2"),
    (("tcp", "--on", "node-1,node-1"), "node-1 is named more than once"),
    (("jaccl", "--on", NODES), "node-1 does not offer it"),
]


@asynccontextmanager
async def served(home: Path) -> AsyncIterator[tuple[LocalCluster, Client]]:
    async with asyncio.timeout(LIMIT_S), running(PLAN, home) as cluster, cluster.client() as client:
        assert await ask(client) == "tcp"
        yield cluster, client


async def ask(client: Client) -> str:
    """The transport over which a request was served."""
    async for event in client.generate(Generate(new_request_id(), "go", 5, Sampling(), deadline_s=60.0)):
        if isinstance(event, Completed):
            return event.transport
    raise AssertionError("a generation ends with Completed or an error")


async def start(cluster: LocalCluster, *arguments: str) -> asyncio.subprocess.Process:
    """A command for this cluster, with JSON as its output."""
    where = [
        setting("control.address", cluster.address), setting("control.coordinator", "node-1"),
        setting("home", str(cluster.folder)),
    ]  # fmt: skip
    settings = [part for each in where for part in ("--set", each)]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from nova.cli.main import main; main()", *arguments, "--json", *settings,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def said(cluster: LocalCluster, *arguments: str, status: int = 0) -> Any:
    process = await start(cluster, *arguments)
    output, errors = await process.communicate()
    assert process.returncode == status, output.decode() + errors.decode()
    return json.loads(output)


def test_cases_run_between_engines_while_the_deployment_serves_as_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (cluster, client):
            before = await client.status()
            checking = asyncio.create_task(
                said(cluster, "transports", "check", "tcp", "--on", NODES, *cases("K1_", "L3_", "L5_", "T1_", "F8_"))
            )
            while not checking.done():
                assert await ask(client) == "tcp"
            checked = checking.result()
            after = await client.status()
            assert (after.generation, after.state) == (before.generation, "serving")
            assert [each.pid for each in after.engines] == [each.pid for each in before.engines]
            assert checked["nodes"] == ["node-1", "node-2"]
            results = {each["clause"]: each for each in checked["report"]["results"]}
            outcomes = {clause: (each["outcome"], each["reason"]) for clause, each in results.items()}
            passed = ("passed", "")
            assert outcomes == {
                "K1": passed, "L3": ("skipped", "takes 3 nodes"), "L5": ("skipped", "takes 3 nodes"), "T1": passed,
                "F8": ("skipped", "lacks ARRAYS"),
            }  # fmt: skip
            killed = [each for each in checked["report"]["results"] if each["case"].startswith("F8_")]
            assert [each["outcome"] for each in killed] == ["passed", "skipped"], "a rank that kills itself is awaited"
            found = await said(cluster, "explain")
            assert (found["state"], found["transport"]) == ("serving", "tcp")
            assert found["candidates"][0]["verdict"] == "chosen"
            (attempt,) = found["attempts"]
            assert attempt["outcome"] == "serving", "a check is no attempt"
            assert {(each["source"], each["target"]) for each in attempt["links"]} == {
                ("node-1", "node-2"), ("node-2", "node-1"),
            }  # fmt: skip

    asyncio.run(main())


def test_an_interrupted_check_ends_its_engines_alone_and_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as (cluster, client):
            serving = {each.pid for each in (await client.status()).engines}
            process = await start(cluster, "transports", "check", "tcp", "--on", NODES, *cases("T"))
            while not engines(cluster) - serving:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            await process.communicate()
            assert process.returncode == 130
            while engines(cluster) - serving:
                await asyncio.sleep(0.02)
            assert engines(cluster) == serving
            assert await ask(client) == "tcp"
            for arguments, why in REFUSED:
                printed = await said(cluster, "transports", "check", *arguments, *cases("T1_"), status=1)
                assert why in printed["error"]

    asyncio.run(main())


def cases(*prefixes: str) -> list[str]:
    return [part for prefix in prefixes for part in ("--case", prefix)]


def engines(cluster: LocalCluster) -> set[int]:
    """The engines' processes; probes are none."""
    found = set()
    for process in marked(cluster.folder.name):
        try:
            if "nova.engine" in process.cmdline():
                found.add(process.pid)
        except psutil.Error:
            continue
    return found
