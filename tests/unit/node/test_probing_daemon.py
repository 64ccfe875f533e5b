"""A real daemon whose plugins misbehave while they are probed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from nova.clock import Deadline, monotonic
from nova.wire.boot import Announcement
from tests.unit.node import odd

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def _odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with odd.installed(tmp_path, monkeypatch):
        yield


@contextlib.contextmanager
def daemon(home: Path, *settings: str) -> Iterator[subprocess.Popen[str]]:
    """A coordinator that serves nothing, on loopback."""
    own = [
        f"home={home}",
        "role=coordinator",
        "name=a",
        "control.coordinator=a",
        "control.address=127.0.0.1:0",
        "api.listen=",
    ]
    options = [part for setting in (*own, *settings) for part in ("--set", setting)]
    with subprocess.Popen(
        [sys.executable, "-m", "nova", "--json", *options],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def probes(pid: int) -> list[psutil.Process]:
    """The daemon's children that probe."""
    found = []
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.Error):
            if "nova.transport.probe" in child.cmdline():
                found.append(child)
    return found


def how(what: str) -> str:
    return f"transport.options.odd.how={json.dumps(what)}"


def test_a_wrong_option_of_a_plugin_ends_the_daemon_with_the_option_s_name(tmp_path: Path) -> None:
    with daemon(tmp_path, 'transport.order=["odd"]', "transport.options.odd.hwo=1") as process:
        out, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, out) == (1, "")
    assert "nova-node: transport.options.odd: unknown option 'hwo', expected one of how" in errors


def test_a_plugin_that_hangs_costs_its_transport_and_not_the_node(tmp_path: Path) -> None:
    settings = ['transport.order=["odd","tcp"]', "transport.probe_s=2", how("hang")]
    with daemon(tmp_path, *settings) as process:
        assert process.stdout is not None
        announced = msgspec.json.decode(process.stdout.readline(), type=Announcement)
        assert announced.pid == process.pid
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0
    assert "its probe did not answer within 2 s" in errors


def test_a_daemon_that_is_told_to_end_while_it_probes_ends_at_once_and_leaves_no_probe(tmp_path: Path) -> None:
    settings = ['transport.order=["odd"]', "transport.side=[]", "transport.probe_s=600", how("hang holding the lock")]
    with daemon(tmp_path, *settings) as process:
        deadline = Deadline.after(LIMIT_S)
        while not probes(process.pid):
            assert not deadline.expired
            assert process.poll() is None, process.communicate()
        begun = monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
        assert monotonic() - begun < 10.0
    assert process.returncode == 0


def test_a_daemon_that_probes_imports_no_plugin() -> None:
    code = (
        "import asyncio, sys, nova.daemon\n"
        "from nova.config.schema import Transport\n"
        "from nova.node.prober import Prober\n"
        "offers = asyncio.run(Prober(Transport(order=['tcp', 'zmq', 'odd'])).look())\n"
        "assert [offer.unavailable for offer in offers] == [None] * 3, offers\n"
        "print([name for name in sys.modules if name.startswith(('nova_transport_', 'odd', 'mlx'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
