"""`mlx_lm.server`, started to be measured beside Nova: one process on all cores, with the same BLAS."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from nova.clock import Deadline
from nova.node.blas import choose, environment

UP_S, LOOK_S = 60.0, 0.1


@asynccontextmanager
async def serving(folder: Path, threads: int, blas: str) -> AsyncIterator[str]:
    """Its URL, once it answers. Raises RuntimeError with the end of its log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**environment(choose(blas), threads, dict(os.environ)), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "mlx_lm", "server", "--model", str(folder), "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        try:
            await _up(f"http://127.0.0.1:{port}", process, log.fileno())
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


async def _up(address: str, process: subprocess.Popen[bytes], log: int) -> None:
    deadline = Deadline.after(UP_S)
    async with httpx.AsyncClient() as http:
        while True:
            try:
                (await http.get(f"{address}/health")).raise_for_status()
                return
            except httpx.HTTPError as error:
                if process.poll() is not None or deadline.expired:
                    said = os.pread(log, 1 << 20, 0).decode(errors="replace")[-2000:]
                    raise RuntimeError(f"mlx_lm.server did not come up: {said}") from error
            await asyncio.sleep(LOOK_S)
