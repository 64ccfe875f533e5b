"""One `nova-node` daemon as a child of a command: started, announced, watched, ended."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from nova.clock import Deadline
from nova.errors import EngineError
from nova.node.process import signal_name
from nova.wire.boot import Announcement

TAIL_BYTES = 2000


class DaemonProcess:
    """A daemon whose standard input is its lifeline; it logs to `folder/NAME.log`."""

    def __init__(self, name: str, folder: Path, settings: Sequence[str], environment: dict[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._settings = settings
        self._environment = environment
        self.announcement: Announcement | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, deadline: Deadline) -> Announcement:
        """Spawn, and wait until it says that it is up. Raises EngineError with the end of its log."""
        options = [part for setting in self._settings for part in ("--set", setting)]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "nova", "--lifeline", "--json", *options,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), deadline.remaining())
        except TimeoutError:
            raise EngineError(f"{self.name} did not come up in time: {self.tail()}") from None
        if not line:
            await self._process.wait()
            raise EngineError(f"{self.name} did not start: {self.tail()}")
        self.announcement = msgspec.json.decode(line, type=Announcement)
        return self.announcement

    async def ended(self) -> str:
        """Wait for its end; how it ended, in words."""
        assert self._process is not None
        await self._process.wait()
        return self.how_it_ended() or ""

    def how_it_ended(self) -> str | None:
        """None while it runs."""
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return None
        how = f"was killed by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        return f"the daemon {self.name} (pid {self.pid}) {how}"

    def ask_to_end(self) -> None:
        """SIGTERM, and the end of its lifeline. Idempotent."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def tail(self) -> str:
        """The end of its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")[-TAIL_BYTES:].strip()
        return text.splitlines()[-1] if text else "it wrote no log"
