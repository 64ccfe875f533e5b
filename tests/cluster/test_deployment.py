"""A deployment by configuration file: two daemons that stay, and commands that come and go."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nova.cli.output import Status, Text
from tests.cluster.reference import PROMPT
from tests.support.nova import Outcome, nova
from tests.support.tiny import make_tiny

LOOPBACK = Path(__file__).parents[2] / "conf" / "loopback.toml"
END_S = 15.0


class Daemon:
    """A `nova-node` with conf/loopback.toml, as a user starts it."""

    def __init__(self, settings: list[str], log: Path) -> None:
        options = [part for setting in settings for part in ("--set", setting)]
        with log.open("ab") as out:
            command = [sys.executable, "-m", "nova", "--config", str(LOOPBACK), *options]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(END_S)


@pytest.fixture
def settings(nova_home: Path, tmp_path: Path) -> list[str]:
    """What this test changes in conf/loopback.toml: the model, and a free port."""
    model = make_tiny(tmp_path / "tiny", "llama", eos_token_id=None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return [f"control.address=127.0.0.1:{port}", f'deployment.model="{model}"', "deployment.retry_s=0.1", "api.listen="]


@pytest.fixture
def daemons(settings: list[str], tmp_path: Path) -> Iterator[list[Daemon]]:
    """Coordinator and worker."""
    worker = [*settings, "role=worker", "name=worker"]
    running = [Daemon(settings, tmp_path / "0.log"), Daemon(worker, tmp_path / "1.log")]
    yield running
    for daemon in running:
        if daemon.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.end()
            daemon.process.kill()
        daemon.process.wait()


def ask(settings: list[str]) -> Outcome:
    options = [part for setting in settings for part in ("--set", setting)]
    return nova("generate", "--config", str(LOOPBACK), *options, "--prompt", PROMPT, "--max-tokens", "8", "--json")


def generate(settings: list[str]) -> list[int]:
    outcome = ask(settings)
    assert outcome.status == 0, outcome.errors
    assert set(outcome.output) == set(Text.__struct_fields__)
    tokens: list[int] = outcome.output["tokens"]
    return tokens


def status(settings: list[str]) -> dict[str, Any]:
    options = [part for setting in settings for part in ("--set", setting)]
    outcome = nova("status", "--config", str(LOOPBACK), *options, "--json")
    assert outcome.status == 0, outcome.errors
    assert set(outcome.output) == set(Status.__struct_fields__)
    return outcome.output


def test_a_deployment_serves_and_tells_and_ends(daemons: list[Daemon], settings: list[str]) -> None:
    assert len(generate(settings)) == 8
    found = status(settings)
    assert found["state"] == "serving"
    assert found["transport"] == "tcp"
    assert [(each["node"], each["layers"]) for each in found["engines"]] == [("coordinator", 2), ("worker", 2)]
    assert all(each["weight_bytes"] > 0 and each["memory_bytes"] > 0 for each in found["engines"])
    assert all(each["state"] == "up" and each["heartbeat_age_s"] < 2.0 for each in found["nodes"])
    assert [daemon.end() for daemon in reversed(daemons)] == [0, 0]


def test_a_worker_that_comes_back_is_taken_in_again(daemons: list[Daemon], settings: list[str], tmp_path: Path) -> None:
    before = generate(settings)
    daemons[1].end(signal.SIGKILL)
    daemons[1] = Daemon([*settings, "role=worker", "name=worker"], tmp_path / "2.log")
    # Until the loss is noticed and a new group stands, a request is told why there is none.
    for _ in range(50):
        outcome = ask(settings)
        if outcome.status == 0:
            break
        assert "worker" in outcome.output["error"]
    assert outcome.output["tokens"] == before
    found = status(settings)
    assert found["generation"] == 2, found["reasons"]


def test_a_coordinator_that_comes_back_finds_its_worker(
    daemons: list[Daemon], settings: list[str], tmp_path: Path
) -> None:
    before = generate(settings)
    daemons[0].end(signal.SIGKILL)
    daemons[0] = Daemon(settings, tmp_path / "2.log")
    for _ in range(50):
        outcome = ask(settings)
        if outcome.status == 0:
            break
    assert outcome.output["tokens"] == before


def test_commands_without_a_coordinator_say_so(settings: list[str]) -> None:
    outcome = nova("status", "--config", str(LOOPBACK), "--set", settings[0], "--json")
    assert outcome.status == 1
    assert settings[0].partition("=")[2] in outcome.output["error"]
    assert "connection refused" in outcome.output["error"]


def test_a_stranger_to_a_remote_coordinator_learns_how_to_be_let_in(nova_home: Path) -> None:
    outcome = nova("status", "--set", "control.address=192.0.2.1:29200", "--json")
    assert outcome.status == 1
    assert "nova keys trust" in outcome.output["error"]
