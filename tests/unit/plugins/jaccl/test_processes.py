"""Real processes: arrays over MLX itself, and the ends that a parent must see and cause."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nova_transport_jaccl.endpoint import Card
from nova_transport_jaccl.ledger import Ledger
from nova_transport_jaccl.transport import JacclTransport

from nova.clock import monotonic
from nova.node.process import signal_name
from nova.transport.registry import load_transport
from tests.structure.project import ROOT
from tests.unit.plugins.jaccl.machines import cabled
from tests.unit.plugins.jaccl.rank import BOOT_S

LIMIT_S = 30.0


class Rank:
    """One child, and the lines that it speaks."""

    def __init__(self, how: str, rank: int, ledger: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "tests.unit.plugins.jaccl.rank", how, str(rank), str(ledger)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, bufsize=0,  # what select sees is all there is
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def hear(self) -> Any:
        """The next line; a child that ends instead fails the test."""
        assert self.process.stdout is not None
        ready = select.select([self.process.stdout], [], [], LIMIT_S)[0]
        line = self.process.stdout.readline() if ready else b""
        assert line, f"the rank said nothing, and ended with {self.process.poll()}"
        return json.loads(line)

    def say(self, what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def ledger_at(tmp_path: Path) -> Path:
    return tmp_path / "run" / "ledger.json"


def alone(how: str, tmp_path: Path, stack: ExitStack) -> Rank:
    """Rank 0 of two, whose peer answers every exchange as it does itself."""
    rank = Rank(how, 0, ledger_at(tmp_path))
    stack.callback(rank.end)
    peer = msgspec.json.encode(Card(cabled(1, {0: 1}), "127.0.0.1")).decode()
    rank.say([rank.hear(), peer])
    return rank


def echo(rank: Rank) -> object:
    """Answer exchanges until the child says something else."""
    while True:
        line = rank.hear()
        try:
            blob = bytes.fromhex(line)
        except (TypeError, ValueError):
            return line
        rank.say([blob.hex()] * 2)


def test_two_processes_form_and_move_arrays_over_mlx(tmp_path: Path, stack: ExitStack) -> None:
    ports = [sock.getsockname()[1] for sock in [stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                                                for _ in range(2)]]  # fmt: skip
    stack.close()
    hosts = tmp_path / "hosts.json"
    hosts.write_text(json.dumps([[f"127.0.0.1:{number}"] for number in ports]))
    ranks = [Rank("ring", rank, ledger_at(tmp_path), HOSTS=str(hosts)) for rank in range(2)]
    for rank in ranks:
        stack.callback(rank.end)
    cards = [rank.hear() for rank in ranks]
    for rank in ranks:
        rank.say(cards)
    for rank in ranks:
        seen = rank.hear()
        assert seen["right"] == [True, True, True]
        assert seen["sum"] == 3.0
        assert "this process has formed a JACCL group before" in seen["again"]
        assert rank.process.wait(LIMIT_S) == 0
    assert Ledger(ledger_at(tmp_path), BOOT_S).failed() == 0


def test_a_crash_inside_mlx_is_seen_as_its_signal_and_stays_counted(tmp_path: Path, stack: ExitStack) -> None:
    rank = alone("crash", tmp_path, stack)
    with pytest.raises(AssertionError, match="said nothing"):
        echo(rank)
    assert signal_name(-rank.process.wait(LIMIT_S)) == "SIGSEGV"
    assert Ledger(ledger_at(tmp_path), BOOT_S).failed() == 1


@pytest.mark.parametrize(("how", "counted"), [("stuck", 1), ("dead", 0)])
def test_a_process_stuck_in_mlx_ends_at_once_by_sigterm(
    tmp_path: Path, stack: ExitStack, how: str, counted: int
) -> None:
    rank = alone(how, tmp_path, stack)
    assert echo(rank) == "stuck"
    begun = monotonic()
    rank.process.send_signal(signal.SIGTERM)
    assert rank.process.wait(LIMIT_S) == -signal.SIGTERM
    assert monotonic() - begun < 5.0
    assert Ledger(ledger_at(tmp_path), BOOT_S).failed() == counted


def test_the_plugin_is_found_by_its_name_and_imports_no_mlx() -> None:
    assert isinstance(load_transport("jaccl"), JacclTransport)
    code = "import sys, nova_transport_jaccl; sys.exit('mlx' in sys.modules or 'mlx.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=LIMIT_S, check=False).returncode == 0


def test_mlx_without_jaccl_is_refused_before_init_could_end_the_process() -> None:
    """init without librdma is a SIGSEGV where MLX has JACCL; only is_available may be asked."""
    code = (
        "from nova_transport_jaccl.backend import MlxBackend, installed_mlx\n"
        "from nova.errors import TransportUnavailable\n"
        "if installed_mlx().jaccl: raise SystemExit(0)\n"
        "try: MlxBackend().init(None)\n"
        "except TransportUnavailable as error: raise SystemExit('librdma' not in str(error))\n"
        "raise SystemExit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=LIMIT_S, check=False).returncode == 0
