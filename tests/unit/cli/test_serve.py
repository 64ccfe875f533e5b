"""What `nova serve` checks before it starts anything, and what it tells its daemons."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from nova.cli import serve
from nova.cli.app import app
from nova.cli.output import Serving
from nova.cli.serve import api_settings, check_free
from nova.clock import Deadline
from nova.config.load import load
from nova.errors import ConfigError, EngineError, NodeLost
from nova.wire.requests import StatusReply
from tests.support.nova import Command, read_until

RUNNER = CliRunner()


def problem(*options: str) -> str:
    result = RUNNER.invoke(app, ["serve", "-m", "emulated:seed", "--nodes", "2", *options, "--json"])
    assert result.exit_code == 1, result.output
    return str(json.loads(result.stdout)["error"])


def test_a_port_that_is_taken_is_said_before_anything_starts(nova_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = f"127.0.0.1:{holder.getsockname()[1]}"
        said = problem("--listen", taken)
        assert f"cannot listen on {taken}: address already in use" in said
        assert "--listen 127.0.0.1:0 takes a free port" in said
        assert taken in problem("--set", f"api.listen={taken}")
    check_free(taken)
    check_free("127.0.0.1:0")
    assert list(nova_home.iterdir()) == []


@pytest.mark.parametrize("listen", ["", "127.0.0.1", "127.0.0.1:http", "127.0.0.1:99999", "192.0.2.1:1"])
def test_an_address_where_nobody_can_listen_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="--listen"):
        check_free(listen)


def test_daemons_are_told_the_hashes_of_keys_only() -> None:
    digest = f"sha256:{hashlib.sha256(b'secret').hexdigest()}"
    settings = api_settings("127.0.0.1:0", ["secret", digest])
    assert load(None, settings).api.keys == [digest, digest]
    assert "secret" not in "".join(settings)


def test_a_model_that_is_not_there_is_said_before_anything_starts(nova_home: Path) -> None:
    result = RUNNER.invoke(app, ["serve", "-m", "missing", "--listen", "127.0.0.1:0", "--json"])
    assert result.exit_code == 1
    assert "'missing' not found" in json.loads(result.stdout)["error"]


class Client:
    """Answers its states in turn, the last one again and again; an error is raised."""

    def __init__(self, *states: str | Exception, generation: int = 1) -> None:
        self.states = list(states)
        self.generation = generation

    async def status(self) -> StatusReply:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return StatusReply(
            "r", "a", "0", "m", state, "tcp", self.generation, {}, [], [], {}, ["it broke"] if state == "failed" else []
        )


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "WATCH_S", 0.001)


def come_up(client: Any) -> StatusReply:
    async def run() -> StatusReply:
        async with asyncio.timeout(20.0):
            return await serve._come_up(client)

    return asyncio.run(run())


def test_a_first_failure_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    states = ("opening", "forming", "failed", NodeLost("away"), "forming", "serving")
    assert come_up(Client(*states)).state == "serving"


def test_a_deployment_that_keeps_failing_ends_the_command_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "FAILING_S", 0.05)
    with pytest.raises(EngineError, match="it broke"):
        come_up(Client("failed"))


def test_a_model_that_cannot_be_opened_ends_it_at_once() -> None:
    with pytest.raises(EngineError, match="it broke"):
        come_up(Client("failed", generation=0))


def test_it_says_when_it_does_not_serve_and_when_it_is_back(capfd: pytest.CaptureFixture[str]) -> None:
    client: Any = Client("serving", "failed", "forming", "serving", NodeLost("no heartbeat"), "serving")

    async def run() -> None:
        watching = asyncio.create_task(serve._watch(client, "serving"))
        async with asyncio.timeout(20.0):
            while len(client.states) > 1:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())
    lines = capfd.readouterr().err.splitlines()
    assert lines[:3] == [
        "not serving, it recovers: it broke",
        "serving again over tcp",
        "not serving, it recovers: no heartbeat",
    ]


def test_what_is_to_be_copied_names_the_key_where_one_is_needed(capfd: pytest.CaptureFixture[str]) -> None:
    found = Serving(
        url="http://127.0.0.1:1", model="it's", nodes=["node-1"], transport="", keys=1, control="127.0.0.1:2", home="h"
    )
    serve._print(found, "my cert.pem")
    printed = capfd.readouterr().out
    assert "--cacert 'my cert.pem' -d" in printed
    assert "nova chat --url http://127.0.0.1:1 --ca 'my cert.pem'" in printed
    assert "curl http://127.0.0.1:1/v1/chat/completions" in printed
    assert '-H "Authorization: Bearer $NOVA_API_KEY"' in printed
    assert "--set control.coordinator=node-1" in printed


def told(command: Command, text: str, deadline: Deadline) -> str:
    """What it says on standard error up to the line with `text`."""
    assert command.process.stderr is not None
    lines = ""
    while text not in lines:
        assert not deadline.expired, lines
        line = command.process.stderr.readline()
        assert line, f"the command ended without {text!r}: {lines}"
        lines += line
    return lines


def test_a_deployment_survives_its_daemons_and_ends_with_ctrl_c(nova_home: Path) -> None:
    deadline = Deadline.after(60.0)
    options = ("--nodes", "2", "--listen", "127.0.0.1:0", "--api-key", "k", "--json")
    with Command("serve", "-m", "emulated:seed", *options, "--set", "control.dead_after_s=1") as command:
        found = json.loads(read_until(command, "\n}\n", deadline))
        assert (found["nodes"], found["keys"], found["transport"]) == (["node-1", "node-2"], 1, "tcp")
        assert httpx.get(f"{found['url']}/v1/models", trust_env=False).status_code == httpx.codes.UNAUTHORIZED
        for daemon in command.daemons():  # the worker and the coordinator
            daemon.kill()
        lines = told(command, "serving again over tcp", deadline)
        assert "not serving, it recovers: " in lines
        for name in found["nodes"]:
            assert re.search(rf"the daemon {name} \(pid \d+\) was killed by SIGKILL; it is started again in", lines)
        assert httpx.get(f"{found['url']}/ready", trust_env=False).status_code == httpx.codes.OK
        daemons = command.daemons()
        command.process.send_signal(signal.SIGINT)
        assert told(command, "stopping", deadline)
        assert command.process.wait(deadline.remaining()) == 0
    assert [daemon for daemon in daemons if daemon.is_running()] == []
    assert list((nova_home / "run").iterdir()) == []
