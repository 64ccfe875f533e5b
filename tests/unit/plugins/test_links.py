"""Between two machines of the lab: a dial leaves by the interface of its source, whatever the routing table says."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from lablib.lab import Lab
from lablib.life import lab

from tests.structure.project import ROOT
from tests.support.lab import needs_lab

pytestmark = needs_lab

JOIN_S = 9.0
LIMIT_S = 40.0
CABLES = ("169.254.85.1", "169.254.85.2")
OTHERS = ("10.77.0.1", "10.77.0.2")

Rank = subprocess.Popen[str]


@pytest.fixture
def pair() -> Iterator[Lab]:
    with lab(2) as found:
        yield found


def join(pair: Lab, transport: str, *hosts: list[str], join_s: float = JOIN_S) -> list[tuple[dict[str, Any], str]]:
    """For rank 0 on mac-1 and rank 1 on mac-2, which dials: what came of the join, and the log."""
    with contextlib.ExitStack() as ending:
        ranks = [
            start(pair, [transport, str(rank), str(join_s), *each], rank, ending) for rank, each in enumerate(hosts)
        ]
        cards = [hear(child) for child in ranks]
        for child in ranks:
            tell(child, json.dumps(cards))
        said = [json.loads(hear(child)) for child in ranks]
        logs = [child.communicate("\n", timeout=LIMIT_S)[1] for child in ranks]
        return list(zip(said, logs, strict=True))


def start(pair: Lab, arguments: list[str], rank: int, ending: contextlib.ExitStack) -> Rank:
    """The rank's process, which is killed at the end or after LIMIT_S."""
    command = [sys.executable, "-m", "tests.unit.plugins.far_rank", *arguments]
    child = pair.popen(
        f"mac-{rank + 1}", command, text=True, cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    limit = threading.Timer(LIMIT_S, child.kill)
    limit.start()
    for end in (child.__exit__, lambda *_: child.kill(), lambda *_: limit.cancel()):
        ending.push(end)
    return child


def hear(child: Rank) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: Rank, line: str) -> None:
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


@pytest.mark.parametrize("transport", ["tcp", "zmq"])
def test_a_dial_to_a_link_local_address_leaves_by_the_cable_although_the_route_leads_elsewhere(
    pair: Lab, transport: str
) -> None:
    pair.route("mac-2", right=False)
    _, (said, log) = join(pair, transport, [CABLES[0], OTHERS[0]], [CABLES[1], OTHERS[1]])
    assert said["joined"] < JOIN_S / 4, log
    assert f"{CABLES[0]} from {CABLES[1]} over tb0" in log


@pytest.mark.parametrize("transport", ["tcp", "zmq"])
def test_a_cable_that_is_out_gives_way_to_the_other_network(pair: Lab, transport: str) -> None:
    pair.cut("mac-1")
    _, (said, log) = join(pair, transport, [CABLES[0], OTHERS[0]], [CABLES[1], OTHERS[1]])
    assert said["joined"] < JOIN_S / 2, log
    assert f"{OTHERS[0]} from {OTHERS[1]} over en0" in log


@pytest.mark.parametrize("transport", ["tcp", "zmq"])
def test_a_cable_that_is_out_is_named_when_there_is_no_other_network(pair: Lab, transport: str) -> None:
    pair.cut("mac-1")
    _, (said, _) = join(pair, transport, [CABLES[0]], [CABLES[1]], join_s=2.0)
    assert f"rank 0 ({CABLES[0]} from {CABLES[1]}: " in said["failed"]


@pytest.mark.parametrize("transport", ["tcp", "zmq"])
def test_a_link_local_ipv6_address_is_dialled_on_our_own_name_of_the_link(pair: Lab, transport: str) -> None:
    hosts = [
        next(address for address in pair.addresses(f"mac-{number}")["tb0"] if address.startswith("fe80"))
        for number in (1, 2)
    ]
    scoped = [f"{host.partition('%')[0]}%tb0" for host in hosts]
    _, (said, log) = join(pair, transport, [scoped[0]], [scoped[1]])
    assert "joined" in said, said
    assert f"{scoped[0]} from {scoped[1]} over tb0" in log
