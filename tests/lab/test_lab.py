"""The lab does to its hosts what its verbs say, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from lablib import quota, system
from lablib.errors import LabError
from lablib.lab import STATE, Lab
from lablib.life import ETC, lab, load, up
from lablib.plan import Plan, ids

from nova.clock import Deadline
from tests.structure.project import ROOT
from tests.support.lab import dial, listen, needs_lab, python, states

pytestmark = needs_lab

STREAM = """
import socket, sys, time
with socket.create_connection((sys.argv[1], 7000), timeout=20) as peer:
    peer.sendall(b"x"); peer.recv(1)
    begun, left = time.monotonic(), int(sys.argv[2])
    peer.sendall(bytes(left))
    while left: left -= len(peer.recv(1 << 16))
    print(time.monotonic() - begun)
"""

SPIN = """
import time
begun = time.monotonic()
while time.monotonic() - begun < 0.5: pass
print(time.process_time() / (time.monotonic() - begun))
"""

OWNER = """
import os, signal, subprocess, sys
from lablib.life import lab
with lab(1) as it:
    it.popen("mac-1", ["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(it.plan.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def remains(id_: str) -> list[str]:
    """Everything on this machine that carries the id of a lab."""
    folders = [*ETC.glob(f"*-{id_}-*"), *STATE.glob(id_)]
    controller = quota.find()
    groups = controller.groups(f"novalab-{id_}-") if controller else []
    spaces = [line for line in system.call(["ip", "netns", "list"]).splitlines() if id_ in line]
    return [*map(str, folders), *map(str, groups), *spaces]


def command(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NOVA_PYTHON": sys.executable, "PATH": path or os.environ["PATH"]}
    tool = str(ROOT / "tools" / "lab")
    return subprocess.run([tool, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def pair() -> Iterator[Lab]:
    with lab(2) as found:
        yield found


def test_hosts_reach_each_other_on_both_networks_and_by_name(pair: Lab) -> None:
    listen(pair, "mac-2")
    for address in ("169.254.85.2", "10.77.0.2", "mac-2.local"):
        assert dial(pair, "mac-1", address) == "hello"


def test_a_cut_link_loses_its_carrier_keeps_its_address_and_heals(pair: Lab) -> None:
    listen(pair, "mac-2")
    pair.cut("mac-2")
    assert dial(pair, "mac-1", "169.254.85.2", 0.3).startswith("no: ")
    assert dial(pair, "mac-1", "10.77.0.2") == "hello"
    (link,) = json.loads(pair.run("mac-2", ["ip", "-j", "addr", "show", "tb0"]).stdout)
    assert "NO-CARRIER" in link["flags"]
    assert "169.254.85.2" in [each["local"] for each in link["addr_info"]]
    assert [each["links"]["tb0"] for each in pair.status()["state"]] == ["up", "cut"]
    pair.heal("mac-2")
    assert dial(pair, "mac-1", "169.254.85.2") == "hello"
    pair.cut("mac-2", "en0")
    assert dial(pair, "mac-1", "10.77.0.2", 0.3).startswith("no: ")


def test_a_wrong_route_leads_where_nobody_answers_until_it_is_put_right(pair: Lab) -> None:
    listen(pair, "mac-2")
    for _ in range(2):  # a verb that is said twice is done once
        pair.route("mac-1", right=False)
    assert dial(pair, "mac-1", "169.254.85.2", 0.3).startswith("no: ")
    assert dial(pair, "mac-1", "10.77.0.2") == "hello"
    for _ in range(2):
        pair.route("mac-1", right=True)
    assert dial(pair, "mac-1", "169.254.85.2") == "hello"


def test_names_can_resolve_to_ipv6_only() -> None:
    resolve = "import socket, sys; print(socket.getaddrinfo('mac-2.local', 1, getattr(socket, sys.argv[1])))"
    with lab(2, names="ipv6") as found:
        six, four = (found.run("mac-1", python(resolve, family)) for family in ("AF_INET6", "AF_INET"))
    assert "fd77::2" in six.stdout
    assert four.returncode != 0


def test_a_paused_host_s_processes_stand_still_and_go_on(pair: Lab) -> None:
    children = [pair.popen("mac-1", ["sleep", "60"]) for _ in range(2)]
    pids = [child.pid for child in children]
    assert pair.pause("mac-1") == 2
    assert states(pair, "mac-2", pids) == {"T"}
    assert pair.resume("mac-1") == 2
    assert "T" not in states(pair, "mac-2", pids)


def test_killing_a_host_ends_its_processes_and_nobody_else_s(pair: Lab) -> None:
    here, there = pair.popen("mac-1", ["sleep", "60"]), pair.popen("mac-2", ["sleep", "60"])
    pair.kill("mac-1")
    assert here.wait(5.0) == -signal.SIGKILL
    assert there.poll() is None
    assert system.pids(pair.plan.namespace("mac-1")) == []


def test_the_rate_limit_holds_within_a_factor() -> None:
    size, rate = 1 << 20, 20e6
    with lab(2, rate="20mbit") as found:
        listen(found, "mac-2")
        seconds = float(found.run("mac-1", python(STREAM, "169.254.85.2", size)).stdout)
    # There and back at once: one direction's time, and the last piece's way back.
    assert 0.6 < seconds / (size * 8 / rate) < 4.0


@pytest.mark.skipif(quota.find() is None, reason="there is no cgroup controller `cpu` here")
def test_the_cpu_quota_slows_its_host_and_no_other() -> None:
    with lab(2, cpu=[20]) as found:
        share = float(found.run("mac-1", python(SPIN)).stdout)
        slow, free = (found.run(host, ["cat", "/proc/self/cgroup"]).stdout for host in found.hosts)
    assert share < 0.35
    assert found.plan.namespace("mac-1") in slow
    assert found.plan.id not in free


def test_without_netem_a_delay_is_said_to_be_missing_and_the_lab_goes_up() -> None:
    with lab(2, delay="1ms") as found:
        assert bool(found.notes) != bool(found.plan.delay)
        assert all("netem" in note for note in found.notes)
        assert system.delays() == (not found.notes)


def test_two_labs_with_the_same_addresses_do_not_meet(pair: Lab) -> None:
    with lab(2) as other:
        listen(pair, "mac-2")
        assert dial(other, "mac-1", "10.77.0.2", 0.5).startswith("no: ")
        assert dial(pair, "mac-1", "10.77.0.2") == "hello"


def test_at_its_end_nothing_of_a_lab_is_left_not_even_its_processes() -> None:
    with lab(2, cpu=[50, 50]) as found:
        child = found.popen("mac-2", ["sleep", "60"])
        assert len(remains(found.plan.id)) >= 6
    assert child.returncode == -signal.SIGKILL
    assert remains(found.plan.id) == []


def test_a_lab_that_cannot_be_made_whole_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = system.call

    def refuse(argv: list[str], limit_s: float = 10.0) -> str:
        if "mac-2" in " ".join(argv) and "addr" in argv:
            raise LabError("refused")
        return whole(argv, limit_s)

    monkeypatch.setattr(system, "call", refuse)
    with pytest.raises(LabError, match="refused"):
        up(Plan("broken"))
    assert remains("broken") == []


def test_the_lab_of_a_killed_owner_is_removed_when_the_next_is_made() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tools"), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", OWNER], env=environment, capture_output=True, text=True, timeout=30)
    left = done.stdout.strip()
    assert done.returncode == -signal.SIGKILL
    assert remains(left)
    with lab(1):
        assert system.until(lambda: remains(left) == [], Deadline.after(0.0))


def test_the_command_makes_uses_and_removes_a_lab() -> None:
    id_ = f"t{os.getpid()}"
    try:
        made = command("up", "--id", id_, "--hosts", "2", "--rate", "1gbit")
        assert made.returncode == 0, made.stderr
        assert command("up", "--id", id_).returncode == 1
        home = STATE / id_ / "mac-2"
        inside = command("run", "--id", id_, "mac-2", "sh", "-c", "echo $NOVA_LAB_HOST $HOME $TMPDIR; exit 7")
        assert (inside.returncode, inside.stdout.split()) == (7, ["mac-2", str(home), str(home / "tmp")])
        assert command("cut", "--id", id_, "mac-1").returncode == 0
        assert command("route", "--id", id_, "mac-2", "wrong").returncode == 0
        status = json.loads(command("status", "--id", id_, "--json").stdout)
        assert [(each["links"]["tb0"], each["route"]) for each in status["state"]] == [
            ("cut", "right"),
            ("up", "wrong"),
        ]
        assert "no host 'mac-9'" in command("kill", "--id", id_, "mac-9").stderr
        assert "no command 'pigeon'" in command("run", "--id", id_, "mac-1", "pigeon").stderr
    finally:
        downs = [command("down", "--id", id_).returncode for _ in range(2)]
    assert downs == [0, 0]
    assert remains(id_) == []
    assert id_ not in ids(system.call(["ip", "netns", "list"]).split())


def test_a_verb_for_a_lab_that_is_not_there_says_how_to_make_it() -> None:
    with pytest.raises(LabError, match="tools/lab up --id nowhere"):
        load("nowhere")
