"""Two hundred formings in a row, most of them with a fault: each ends within its limits, and nothing is left of any.

Real daemons and engines on loopback over tcp. A fault is SIGKILL or SIGSTOP of an engine in a phase, or a transport
that fails or hangs in one; what befalls which generation is drawn from SEED. A group that comes up is ended at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benches.faults import STOP, Fault, ending, fault
from benches.report import Progress, Report, machine
from nova import paths
from nova.clock import Deadline
from nova.config.load import load
from nova.config.schema import Engine
from nova.control.client import Client
from nova.local.cluster import ClusterPlan, LocalCluster, marked, running, setting
from nova.wire import phases
from nova.wire.requests import StatusReply
from nova.wire.values import AttemptReport

SEED = 20260516
FORMINGS, RANKS = 200, 2
WARM = 5
"""Generations before the first count of what the daemons hold."""
LOOK_S = 0.02
ATTEMPT_S = 60.0
"""One generation that lasts longer than all its limits together ends the bench."""

START = "start"
"""From the order to start engines until all of them run."""
OVER_S = 1.0
"""A phase may take so much longer than its limit, until its daemon has ended the engine."""

SETTINGS = [
    setting("engine.start_s", 6.0),
    setting("engine.open_s", 1.5),
    setting("engine.join_s", 1.5),
    setting("engine.stop_s", 0.5),
    setting("engine.silent_s", 2.0),
    setting("deployment.retry_s", 0.01),
    setting("deployment.retry_max_s", 0.01),
    setting("transport.hold_s", 0.01),
    setting("transport.hold_max_s", 0.01),
    setting("transport.options.faulty.seed", SEED),
]


@dataclass(frozen=True)
class Holdings:
    """What a cluster holds while it serves."""

    processes: int
    descriptors: int
    listeners: int
    files: int


@dataclass
class Account:
    """What came of each generation. `served` are those that came up."""

    attempts: dict[int, AttemptReport] = field(default_factory=dict)
    served: set[int] = field(default_factory=set)
    first: Holdings | None = None
    last: Holdings | None = None
    left: int = 0
    """Processes and files after the end of the cluster."""


def run(progress: Progress) -> Report:
    report = Report("forming", machine())
    progress(f"seed {SEED}")
    with surroundings() as temporary:
        account = asyncio.run(_form(progress, temporary))
        account.left += len(list(temporary.rglob("*")))
    _judge(report, account)
    return report


@contextmanager
def surroundings() -> Iterator[Path]:
    """A folder for temporary files of our own, and the faulty transport, in the environment of what is started."""
    here = Path(__file__).parent
    plugins = [str(here.parent), str(here / "plugin")]
    before = {name: os.environ.get(name) for name in ("TMPDIR", "PYTHONPATH")}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["TMPDIR"] = temporary
        os.environ["PYTHONPATH"] = os.pathsep.join([*plugins, *filter(None, [before["PYTHONPATH"]])])
        try:
            yield Path(temporary)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


async def _form(progress: Progress, temporary: Path) -> Account:
    account = Account()
    plan = ClusterPlan(RANKS, "emulated:seed", transports=["faulty"], settings=SETTINGS)
    async with running(plan, paths.home()) as cluster:
        async with cluster.client() as client:
            last = 0
            while True:
                status = await _next(client, last)
                last = status.generation
                for attempt in (await client.explain()).attempts:
                    account.attempts[attempt.generation] = attempt
                if last > FORMINGS and account.first and account.last:
                    break
                progress(f"generation {last} of {FORMINGS}: {fault(SEED, last, RANKS) or 'no fault'}")
                await _one(cluster, client, last, account, temporary)
        mark = cluster.folder.name
    account.left += len(marked(mark)) + cluster.folder.exists()
    return account


async def _next(client: Client, last: int) -> StatusReply:
    """Wait for the generation after `last`."""
    deadline = Deadline.after(ATTEMPT_S)
    while (status := await client.status()).generation <= last:
        if deadline.expired:
            raise RuntimeError(f"generation {last} did not end within {ATTEMPT_S:g} s: {status.reasons[-1:]}")
        await asyncio.sleep(LOOK_S)
    return status


async def _one(cluster: LocalCluster, client: Client, number: int, account: Account, temporary: Path) -> None:
    """See one generation to its end, or bring that about."""
    found, deadline = fault(SEED, number, RANKS), Deadline.after(ATTEMPT_S)
    if found is not None and found.phase == phases.BOOT:
        await _strike_booting(cluster, found, deadline)
    while (status := await client.status()).generation == number and not deadline.expired:
        if status.state == "serving":
            account.served.add(number)
            if number >= WARM:
                account.last = _holdings(cluster, temporary)
                account.first = account.first or account.last
            last = ending(SEED, number, RANKS)
            _signal(next(each.pid for each in status.engines if each.engine.rank == last.rank), last)
            return
        if status.state == "failed":
            return
        await asyncio.sleep(LOOK_S)


async def _strike_booting(cluster: LocalCluster, found: Fault, deadline: Deadline) -> None:
    """An engine's first moments, in which nothing of ours can run inside it."""
    daemon = psutil.Process(cluster.daemons[found.rank].pid)
    while not deadline.expired:
        if engines := [child for child in daemon.children() if "nova.engine" in child.cmdline()]:
            await asyncio.sleep(found.after_s)
            _signal(engines[0].pid, found)
            return
        await asyncio.sleep(LOOK_S)


def _signal(pid: int, found: Fault) -> None:
    try:
        os.kill(pid, signal.SIGSTOP if found.how == STOP else signal.SIGKILL)
    except ProcessLookupError:
        return


def _holdings(cluster: LocalCluster, temporary: Path) -> Holdings:
    daemons = [psutil.Process(daemon.pid) for daemon in cluster.daemons]
    everybody = [*daemons, *(child for daemon in daemons for child in daemon.children(recursive=True))]
    connections = [each for process in everybody for each in process.net_connections()]
    return Holdings(
        len(everybody),
        sum(daemon.num_fds() for daemon in daemons),
        sum(each.status == psutil.CONN_LISTEN for each in connections),
        len(list(temporary.rglob("*"))) + len(list(cluster.folder.rglob("*"))),
    )


def overrun(attempt: AttemptReport, served: bool, limits: Engine) -> float:
    """By how many seconds an attempt was over a limit, at most; negative within all of them.

    One that served may have been so in any phase. One that failed was in the phase that it failed in from its entry
    until the failure was known, whatever the other engines went on to meanwhile.
    """
    if served:
        return max(_span(attempt, phase, after) - limit for phase, after, limit in _limits(limits))
    phase, _, limit = next(each for each in _limits(limits) if _index(each[1]) > _index(attempt.phase))
    return attempt.seconds - _entered(attempt, phase) - limit


def _limits(limits: Engine) -> list[tuple[str, str, float]]:
    """From entering a phase until entering another there is so much time."""
    return [
        (START, phases.OPEN, limits.start_s),
        (phases.OPEN, phases.MEET, limits.open_s),
        (phases.MEET, phases.JOIN, limits.start_s),
        (phases.JOIN, phases.LOAD, limits.join_s),
        (phases.LOAD, phases.READY, limits.load_s),
    ]


def _span(attempt: AttemptReport, phase: str, after: str) -> float:
    return _entered(attempt, after) - _entered(attempt, phase)


def _entered(attempt: AttemptReport, phase: str) -> float:
    """Seconds from the attempt's start until its last engine entered a phase."""
    return sum(each.seconds for each in attempt.phases if _index(each.phase) < _index(phase))


def _index(phase: str) -> int:
    return (START, *phases.ORDER).index(phase or START)


def _judge(report: Report, account: Account) -> None:
    attempts = {number: account.attempts[number] for number in range(1, FORMINGS + 1)}
    free = {number for number in attempts if fault(SEED, number, RANKS) is None}
    limits = load(None, SETTINGS).engine
    overruns = {number: overrun(each, number in account.served, limits) for number, each in attempts.items()}
    active = [_active(attempts[number]) for number in sorted(free & account.served)]
    report.measured(f"formings, seed {SEED}", "s", [each.seconds for each in attempts.values()])
    report.measured("no fault, from the last card to verified", "s", active)
    struck = {number: found for number in attempts if (found := fault(SEED, number, RANKS)) is not None}
    for phase in phases.ORDER:
        if over := [max(0.0, overruns[number]) for number, found in struck.items() if found.phase == phase]:
            report.measured(f"fault in {phase}: over the limit by", "s", over)
    report.check("formings in a row", len(attempts), "", ">=", FORMINGS)
    report.check("no fault, yet did not serve", len(free - account.served), "", "<=", 0)
    report.check("a fault, and yet served", len(account.served - free), "", "<=", 0)
    worst = max(overruns, key=lambda number: overruns[number])
    what = f"{struck[worst].how} in {struck[worst].phase}" if worst in struck else "no fault"
    report.check(f"over its limit, worst (generation {worst}, {what})", overruns[worst], "s", "<=", OVER_S)
    report.check("no fault, from the last card to verified, median", sorted(active)[len(active) // 2], "s", "<", 0.5)
    report.check("no fault, from the last card to verified, worst", max(active), "s", "<=", limits.join_s)
    assert account.first is not None
    assert account.last is not None
    for name in ("processes", "descriptors", "listeners", "files"):
        more = getattr(account.last, name) - getattr(account.first, name)
        report.check(f"{name} more than after {WARM} formings", more, "", "<=", 0)
    report.check("processes and files left at the end", account.left, "", "<=", 0)


def _active(attempt: AttemptReport) -> float:
    """Seconds of joining and verifying: from the moment in which all cards were there."""
    return sum(each.seconds for each in attempt.phases if each.phase in (phases.JOIN, phases.VERIFY))
