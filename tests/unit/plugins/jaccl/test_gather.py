"""Commands end by their limit, whatever they do; what they print becomes facts."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import msgspec
import psutil
import pytest
from nova_transport_jaccl import commands
from nova_transport_jaccl.commands import run
from nova_transport_jaccl.config import JacclConfig
from nova_transport_jaccl.facts import MAX_FACTS_BYTES, Facts, Gid, Mlx, Peer, Port, read_facts
from nova_transport_jaccl.gather import facts
from nova_transport_jaccl.verdict import judge

from nova.clock import Deadline, monotonic
from nova.errors import TransportUnavailable
from tests.unit.plugins.jaccl.fakes import HANGS, OUTPUTS, install, printing
from tests.unit.plugins.jaccl.machines import MLX

QUICK = JacclConfig(command_s=10.0)
LIMIT_S = 0.5
SLOW = JacclConfig(command_s=LIMIT_S)


def gather(config: JacclConfig = QUICK) -> Facts:
    return facts(config, lambda: MLX)


def test_a_commands_output_is_returned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"tool": "import sys; print(sys.argv[1:])"})
    ran = run(["tool", "-v", "$HOME; x"], 10.0)
    assert ran == commands.Ran("['-v', '$HOME; x']\n")


def test_a_missing_command_and_a_failing_one_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"tool": "raise SystemExit(3)"})
    assert run(["other"], 10.0).kind == "missing"
    assert run(["tool"], 10.0).trouble == "tool ended with status 3"
    (tmp_path / "tool").chmod(0o600)
    assert run(["tool"], 10.0).kind == "failed"


def test_a_command_that_hangs_ends_by_its_limit_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, {"ibv_devinfo": HANGS})
    begun = monotonic()
    ran = run(["ibv_devinfo", "-v"], LIMIT_S)
    assert monotonic() - begun < LIMIT_S + 2 * commands.GRACE_S + 1.0
    assert ran.kind == "hung"
    assert ran.trouble == "ibv_devinfo did not answer within 0.5 s"
    assert not _running("ibv_devinfo")


def test_what_a_hanging_command_has_started_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
    install(
        tmp_path,
        monkeypatch,
        {"tool": f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {stubborn!r}])"},
    )
    before = psutil.pids()
    assert run(["tool"], LIMIT_S).kind == "hung"  # the tool has ended, but its child holds the pipe
    deadline, pause = Deadline.after(5.0), threading.Event()
    while (left := [pid for pid in set(psutil.pids()) - set(before) if _pauses(pid)]) and not deadline.expired:
        pause.wait(0.02)
    assert left == []


def test_endless_output_is_cut_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"tool": "while True: print('x' * 4096)"})
    ran = run(["tool"], 30.0)
    assert (ran.kind, ran.output) == ("failed", "")
    assert "more than 1048576 bytes" in ran.trouble
    assert not _running("tool")


def test_the_facts_of_a_mac_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, printing())
    found = gather()
    gids = (Gid(0, "fe80::ff:fe00:a2"), Gid(1, "::ffff:169.254.7.8"), Gid(2, "fe80::1"))
    assert found == Facts(
        "26.5.1",
        "enabled",
        (
            Port("1", 5, None, "AAAAAAAA-0000-4000-8000-000000000001", (), "en3", (), "bridge0", "rdma_en3",
                 "PORT_DOWN"),
            Port("4", 5, 80.0, "END-A", (Peer("END-B", "Mac Studio", True, 80.0),), "en2",
                 ("169.254.7.8", "10.0.5.1"), "", "rdma_en2", "PORT_ACTIVE", gids),
        ),
        mlx=MLX,
    )  # fmt: skip
    assert [port.address for port in judge(found).ports] == ["169.254.7.8"]


def test_off_macos_nothing_else_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {"ibv_devinfo": "open(__file__ + '.ran', 'w')"})
    assert gather() == Facts(mlx=MLX)
    assert not (tmp_path / "ibv_devinfo.ran").exists()


def test_a_hanging_driver_is_a_fact_and_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, {**printing(), "ibv_devinfo": HANGS, "rdma_ctl": HANGS})
    begun = monotonic()
    found = gather(JacclConfig(command_s=2.0))
    assert monotonic() - begun < 2 * 2.0 + 2 * commands.GRACE_S + 2.0
    assert (set(found.hung), found.rdma_ctl) == ({"ibv_devinfo", "rdma_ctl"}, "timed out")
    assert "disconnect its power" in judge(found).reason
    assert not _running("ibv_devinfo")


@pytest.mark.parametrize("source", ["print('?')", "raise SystemExit(1)"])
def test_an_unknown_version_is_not_taken_for_another_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    install(tmp_path, monkeypatch, {**printing(), "sw_vers": source})
    assert "the version of macOS is not known: sw_vers" in judge(gather()).reason


def test_missing_and_broken_commands_are_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = {**printing(), "ibv_devices": "raise SystemExit(1)", "system_profiler": "print('{')"}
    del scripts["rdma_ctl"], scripts["ibv_devinfo"]
    install(tmp_path, monkeypatch, scripts)
    found = gather()
    assert found.rdma_ctl == "missing"
    assert found.failed["ibv_devices"] == "ibv_devices ended with status 1"
    assert found.failed["ibv_devinfo"] == "ibv_devinfo is missing"
    assert "what is not understood" in found.failed["system_profiler"]
    assert "no Thunderbolt port is known: system_profiler printed" in judge(found).reason


def test_a_file_is_believed_instead_of_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "bin", monkeypatch, {name: f"open({str(tmp_path / 'ran')!r}, 'w')" for name in OUTPUTS})
    path = tmp_path / "facts.json"
    told = Facts("26.5.1", "enabled", (Port("1", 5),), mlx=Mlx("9.9.9"))
    path.write_bytes(msgspec.json.encode(told))
    assert facts(JacclConfig(facts=str(path)), lambda: MLX) == told
    assert not (tmp_path / "ran").exists()


def test_a_file_without_mlx_takes_the_installed_one(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"rdma_ctl": "enabled"}))
    assert facts(JacclConfig(facts=str(path)), lambda: MLX) == Facts(rdma_ctl="enabled", mlx=MLX)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "README"),
        ('{"macos": 26}', "macos"),
        ('{"mcos": "26.2"}', "mcos"),
        ('{"ports": [{"receptacle": "1", "generation": 6}]}', "generation"),
        (" " * (MAX_FACTS_BYTES + 1), "larger than"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TransportUnavailable, match=words):
        read_facts(path)


def _running(name: str) -> bool:
    return any(name in " ".join(child.cmdline()) for child in psutil.Process().children(recursive=True))


def _pauses(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "signal.pause()" in process.cmdline()[-1]
    except (psutil.Error, IndexError):
        return False
