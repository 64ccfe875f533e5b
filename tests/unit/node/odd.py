"""The transport plugin `odd`, which is a real distribution to the children of a test, and whose probe misbehaves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from nova.clock import Deadline
from tests.support.processes import left_behind

MARK = "NOVA_TEST_PROBE"

PLUGIN = """
import ctypes, os, signal, subprocess, sys, threading, time
from dataclasses import dataclass, field
from nova.errors import ConfigError, TransportUnavailable
from nova.transport.api import Attachment, Caps, Transport, TransportInfo

@dataclass(frozen=True)
class Config:
    how: str = field(default="well", metadata={"help": "what the probe does"})

class Unheard(BaseException):
    pass

def spin(text):
    while True:
        os.write(1, text)

class Odd(Transport):
    name = "odd"
    api = (1, 0)
    version = "1.2"
    Config = Config

    def probe(self, hosts):
        how = self.config.how
        print("on standard output:", how, flush=True)
        match how:
            case "hang":
                threading.Event().wait()
            case "hang holding the lock":
                ctypes.PyDLL(None).sleep(600)
            case "segv":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                sys.exit(7)
            case "exit with a word":
                sys.exit("no driver here")
            case "end":
                os._exit(0)
            case "raise":
                raise ValueError("not today")
            case "raise config":
                raise ConfigError("an option that probe has no say in")
            case "raise base":
                raise Unheard("of")
            case "raise at length":
                raise ValueError("x" * 10_000_000)
            case "interrupt":
                raise KeyboardInterrupt
            case "flood":
                spin(b"x" * 8192)
            case "flood lines":
                spin(b"\\n" * 8192)
            case "flood answers":
                os.dup2(3, 1)
                spin(b"x" * 8192)
            case "rubbish":
                for number in range(3, 10):
                    try:
                        os.write(number, b"{rubbish}\\n")
                    except OSError:
                        pass
            case "number":
                return 5
            case "other name":
                return TransportInfo("tcp", "1", (1, 0), Caps.BYTES, ())
            case "children":
                subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
                os.abort()
            case "threads":
                threading.Thread(target=threading.Event().wait).start()
            case "unavailable":
                raise TransportUnavailable("no such cable")
            case "silent unavailable":
                raise TransportUnavailable
        where = tuple(Attachment("loopback/x", host, 1e-6, 1e9, "lo") for host in hosts)
        return TransportInfo(self.name, self.version, self.api, Caps.BYTES | Caps.ABORT, where, alike={"mlx": "1"})

    def open(self, seat):
        raise TransportUnavailable("for its probe only")
"""


@contextlib.contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The plugin is there for processes that start meanwhile. They carry a mark; at the end none of them is left."""
    (folder / "odd_module.py").write_text(PLUGIN)
    info = folder / "odd-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[nova.transports]\nodd = odd_module:Odd\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])))
    monkeypatch.setenv(MARK, str(folder))
    yield
    assert left_behind(lambda: _marked(str(folder)), Deadline.after(3.0)) == set()


def _marked(mark: str) -> set[psutil.Process]:
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found
