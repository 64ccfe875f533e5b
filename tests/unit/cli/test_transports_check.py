"""`nova transports check`: cases with their verdicts, on this machine and over nodes that a fake coordinator has."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nova.cli.app import app
from nova.cli.check import Wanted, on, places
from nova.cli.show_check import Progress, summary
from nova.clock import Deadline
from nova.control.client import Client
from nova.errors import ConfigError, NoTransport, ProtocolError
from nova.testing.report import CaseResult, Report
from nova.wire.requests import CheckQuery, CheckReply, StatusReply
from nova.wire.values import NodeStatus, RankResult, TransportOffer

LIMIT_S = 60.0
CAPS = ["BYTES", "ANY_PAIR", "DEADLINE", "ABORT", "PEER_FAILURE", "REFORM", "FULL_DUPLEX", "INTER_HOST"]
T1, F8 = "T1_a_part_arrives_exactly", "F8_a_killed_peer_is_lost_to_a_waiting_receive_of_parts"

Rank = Callable[[CheckQuery, int], str]
"""What a rank reports: a CaseResult as JSON, or "" when it has ended without one."""


def result(query: CheckQuery, outcome: str = "passed", reason: str = "") -> str:
    clause = query.case.partition("_")[0]
    found = CaseResult(query.transport, "1.0", query.case, clause, cast("Any", outcome), reason, 0.5)
    return msgspec.json.encode(found).decode()


class Cluster:
    """A coordinator with nodes, as far as a client sees it."""

    def __init__(self, nodes: dict[str, list[TransportOffer]], rank: Rank = lambda query, _: result(query)) -> None:
        self.nodes = nodes
        self.rank = rank
        self.asked: list[CheckQuery] = []

    async def status(self) -> StatusReply:
        nodes = [NodeStatus(name, "up", 0.0, 0.0, 0, None, offers) for name, offers in self.nodes.items()]
        nodes.append(NodeStatus("late", "missing", 0.0, 0.0, 0, None, []))
        return StatusReply("r", "a", "1", "m", "serving", "tcp", 1, {}, nodes, [], {})

    async def check(self, query: CheckQuery, deadline_s: float) -> CheckReply:
        self.asked.append(query)
        assert deadline_s > query.limit_s
        ranks = [RankResult(node, self.rank(query, rank), "it ended") for rank, node in enumerate(query.nodes)]
        return CheckReply(query.request, ranks)

    def run(self, *prefixes: str, nodes: Sequence[str] = ("a", "b")) -> Report:
        checking = on(cast("Client", self), "link", nodes, Wanted(prefixes), Progress(quiet=True))
        return asyncio.run(checking)


def offer(caps: Sequence[str] = CAPS, unavailable: str | None = None) -> list[TransportOffer]:
    return [TransportOffer("other"), TransportOffer("link", "1.0", (1, 0), list(caps), unavailable=unavailable)]


def two() -> dict[str, list[TransportOffer]]:
    return {"a": offer(), "b": offer()}


def test_a_case_runs_on_as_many_nodes_as_it_takes_and_one_of_one_rank_on_each() -> None:
    cluster = Cluster({**two(), "c": offer()})
    report = cluster.run("K2_", "T1_", "L3_", nodes="bca")
    assert [(query.case[:2], query.nodes) for query in cluster.asked] == [
        ("K2", ["b"]), ("K2", ["c"]), ("K2", ["a"]), ("L3", ["b", "c", "a"]), ("T1", ["b", "c"]),
    ]  # fmt: skip
    assert len({query.request for query in cluster.asked}) == 5
    assert [each.outcome for each in report.results] == ["passed"] * 3
    assert report.results[0].seconds == 1.5
    assert (report.transport, report.version, set(report.caps)) == ("link", "1.0", set(CAPS))


def test_what_cannot_run_is_skipped_with_its_reason_and_not_asked_for() -> None:
    cluster = Cluster(two())
    report = cluster.run("L3_", "A1_", "H4_")
    assert [(each.outcome, each.reason) for each in report.results] == [
        ("skipped", "takes 3 nodes"), ("skipped", "has REFORM"), ("skipped", "lacks ARRAYS"),
    ]  # fmt: skip
    assert cluster.asked == []


def test_a_broken_clause_is_told_with_its_rank() -> None:
    def rank(query: CheckQuery, number: int) -> str:
        return result(query, "failed", "another byte came") if number else result(query)

    (found,) = Cluster(two(), rank).run("T1_").results
    assert (found.case, found.outcome, found.reason) == (T1, "failed", "rank 1: another byte came")


def test_a_rank_without_a_result_is_a_failure_that_names_the_node_unless_the_case_kills_it() -> None:
    def rank(query: CheckQuery, number: int) -> str:
        return "" if number else result(query)

    lost, killed = Cluster(two(), rank).run("T1_", "F8_").results[:2]
    assert lost.outcome == "failed"
    assert "rank 1 is b: it ended" in lost.reason
    assert (killed.case, killed.outcome) == (F8, "passed")


def test_a_failure_of_one_node_alone_is_the_failure_of_a_case_of_one_rank() -> None:
    cluster = Cluster(two())
    cluster.rank = lambda query, _: result(query, "failed", "no") if query.nodes == ["b"] else result(query)
    (found,) = cluster.run("K2_").results
    assert (found.outcome, found.reason) == ("failed", "on b: rank 0: no")


def test_a_result_that_does_not_decode_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="the result of T1_a_part_arrives_exactly is malformed"):
        Cluster(two(), lambda query, _: "{}").run("T1_")


@pytest.mark.parametrize(
    ("nodes", "error", "why"),
    [
        ({"a": offer()}, ConfigError, "b is not there; nodes are a"),
        ({"a": offer(), "b": [TransportOffer("other")]}, NoTransport, "b does not offer it"),
        ({"a": offer(), "b": offer(unavailable="no cable")}, NoTransport, "unavailable on b: no cable"),
        ({"a": offer(), "b": offer(CAPS[:3])}, NoTransport, "differ between the nodes: a: BYTES.*; b: BYTES, ANY_PAIR"),
    ],
)
def test_what_cannot_be_checked_is_said_before_a_case_runs(
    nodes: dict[str, list[TransportOffer]], error: type[Exception], why: str
) -> None:
    cluster = Cluster(nodes)
    with pytest.raises(error, match=why):
        cluster.run("T1_")
    assert cluster.asked == []


@pytest.mark.parametrize(
    ("text", "why"),
    [(",", "expected names of nodes"), ("a,,b", "as in a,b, got"), ("a,b,a", "a is named more than once")],
)
def test_nodes_that_cannot_be_meant_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        places(text)
    assert places("a, b") == ["a", "b"]


def test_an_unknown_case_says_which_clauses_there_are() -> None:
    with pytest.raises(ConfigError, match=r"--case: no case begins with Q; clauses are K1, .*C1"):
        Wanted(["Q"]).cases()


def test_slow_cases_are_asked_for() -> None:
    assert not any(case.slow for case in Wanted().cases())
    assert any(case.slow for case in Wanted(slow=True).cases())


# --- here -----------------------------------------------------------------------------------------------------------


def checked(*arguments: str, status: int = 0) -> Any:
    run = CliRunner().invoke(app, ["transports", "check", *arguments, "--json"])
    assert run.exit_code == status, run.output
    return json.loads(run.stdout)


def test_a_transport_is_checked_between_processes_of_this_machine(nova_home: Path) -> None:
    found = checked("tcp", "--case", "T1_", "--case", "A1_")
    assert found["nodes"] == []
    assert [(each["case"][:2], each["outcome"]) for each in found["report"]["results"]] == [
        ("T1", "passed"), ("A1", "skipped"),
    ]  # fmt: skip


def test_a_broken_clause_ends_with_status_1(nova_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "from dataclasses import dataclass\nfrom nova_transport_tcp import TcpTransport\n"
    module += "@dataclass(frozen=True)\nclass Mute:\n    handshake_s: float = 2.0\n"
    module += "class Bad(TcpTransport):\n    name = 'bad'\n    Config = Mute\n    def probe(self, hosts):\n"
    module += "        import dataclasses\n        return dataclasses.replace(super().probe(hosts), name='bad')\n"
    (tmp_path / "nova_bad.py").write_text(module)
    info = tmp_path / "nova_bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nova-bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nova.transports]\nbad = nova_bad:Bad\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (found,) = checked("bad", "--case", "K5_", status=1)["report"]["results"]
    assert found["outcome"] == "failed"
    assert "options without help: handshake_s" in found["reason"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("pigeon",), "pigeon cannot be checked here: no installed distribution provides it"),
        (("tcp", "--set", "transport.options.tcp.pigeons=3"), "unknown option 'pigeons'"),
        (("tcp", "--case", "Q"), "no case begins with Q"),
    ],
)
def test_what_cannot_be_checked_here_is_said(arguments: tuple[str, ...], why: str, nova_home: Path) -> None:
    assert why in checked(*arguments, status=1)["error"]


def is_rank(child: psutil.Process) -> bool:
    try:
        return "nova.testing.child" in child.cmdline()
    except psutil.Error:  # it has ended meanwhile
        return False


def test_an_interrupt_ends_the_case_and_its_processes() -> None:
    command = [sys.executable, "-c", "from nova.cli.main import main; main()", "transports", "check", "tcp"]
    with subprocess.Popen([*command, "--case", "T"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            ranks, end = list[psutil.Process](), Deadline.after(LIMIT_S)
            while len(ranks) < 2:
                assert not end.expired
                ranks = [child for child in psutil.Process(process.pid).children() if is_rank(child)]
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert process.returncode == 130, errors.decode()
    assert "Traceback" not in errors.decode()
    assert psutil.wait_procs(ranks, timeout=LIMIT_S)[1] == []


def test_a_summary_counts_every_outcome() -> None:
    results = [CaseResult("t", "1", "c", "c", cast("Any", outcome)) for outcome in ("passed", "passed", "failed")]
    out = io.StringIO()
    Console(file=out).print(summary(Report("t", "1", [], results)))
    assert out.getvalue().strip() == "t 1: 2 passed, 1 failed, 0 skipped"
