"""How often JACCL has failed to start since this machine booted.

A start that fails, or is killed inside MLX, can cost a protection domain until the machine restarts, and there are
about ten. So a start is counted before it begins and taken back when it has succeeded: whoever dies in between stays
counted, however it died.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import structlog

from nova import paths
from nova.clock import Deadline
from nova.errors import ConfigError, TransportUnavailable

log = structlog.get_logger(__name__)

FILE = "jaccl-ledger.json"
LOCK_S = 2.0
"""The lock is held for one write of a few bytes."""

SAME_BOOT_S = 30.0
"""Boot times this near are one boot: the kernel's value moves when the clock is set."""

MAX_BYTES = 4096


class Entry(msgspec.Struct, frozen=True):
    """`boot_s` is when the machine booted, s since the epoch."""

    boot_s: float
    failed: int


class Ledger:
    """The count in one file. Processes may use it at the same time."""

    def __init__(self, path: Path, boot_s: float) -> None:
        self._path = path
        self._boot_s = boot_s

    @classmethod
    def of_this_machine(cls) -> Ledger:
        return cls(paths.run(paths.home()) / FILE, psutil.boot_time())

    def failed(self) -> int:
        """Starts that have failed, or are under way, since this boot. Raises TransportUnavailable."""
        try:
            with self._path.open("rb") as file:
                entry = msgspec.json.decode(file.read(MAX_BYTES), type=Entry)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._unusable(error) from error
        except msgspec.DecodeError as error:
            log.warning("ledger of JACCL starts is malformed, counting anew", path=str(self._path), error=str(error))
            return 0
        return entry.failed if abs(entry.boot_s - self._boot_s) < SAME_BOOT_S else 0

    def begin(self) -> None:
        """Count a start that is about to begin. Raises TransportUnavailable."""
        self._add(1)

    def succeeded(self) -> None:
        """Take the start back."""
        self._add(-1)

    def _add(self, number: int) -> None:
        try:
            paths.ensure(self._path.parent)
            with self._locked():
                entry = Entry(self._boot_s, max(0, self.failed() + number))
                fresh = self._path.with_suffix(f".{os.getpid()}")
                with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(msgspec.json.encode(entry))
                fresh.replace(self._path)
        except OSError as error:
            raise self._unusable(error) from error
        except ConfigError as error:
            raise TransportUnavailable(str(error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The kernel lets go of the lock when its holder dies. Raises TransportUnavailable."""
        deadline, pause = Deadline.after(LOCK_S), threading.Event()
        path = self._path.with_suffix(".lock")
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if deadline.expired:
                        raise TransportUnavailable(f"{path} is locked by a process that does not go on") from error
                    pause.wait(0.01)
            yield

    def _unusable(self, error: OSError) -> TransportUnavailable:
        return TransportUnavailable(f"cannot count starts of JACCL in {self._path}: {error.strerror}; set NOVA_HOME")
