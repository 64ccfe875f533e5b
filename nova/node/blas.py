"""A faster BLAS for engines on Linux.

The Linux wheel of MLX calls the reference BLAS. OpenBLAS preloaded into the engine made prefill 10 times and decode
1.7 times faster on two x86 cores, with SmolLM2-135M in float32 (`tools/bench blas` measures it).
"""

from __future__ import annotations

import ctypes.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nova.errors import ConfigError

HELP = "engines run on the reference BLAS: installing OpenBLAS (package libopenblas0-pthread) makes them much faster"


@dataclass(frozen=True)
class Blas:
    """`library` is what to preload, if anything; `advice` is said once to the user."""

    library: str | None
    advice: str | None = None


def choose(
    setting: str,
    system: str = platform.system(),
    find: Callable[[str], str | None] = ctypes.util.find_library,
) -> Blas:
    """What `engine.cpu_blas` means on this machine. Raises ConfigError for a path that is no file."""
    if system != "Linux" or setting == "off":
        return Blas(None)
    if setting == "auto":
        found = find("openblas")
        return Blas(found) if found else Blas(None, HELP)
    if not Path(setting).is_file():
        raise ConfigError(f"engine.cpu_blas: no library at {setting!r}; expected auto, off, or the path of a BLAS")
    return Blas(setting)


def environment(blas: Blas, threads: int, inherited: dict[str, str]) -> dict[str, str]:
    """The engine's environment: ours, with the library preloaded and its threads bounded."""
    env = dict(inherited)
    if blas.library:
        env["LD_PRELOAD"] = ":".join(filter(None, [blas.library, env.get("LD_PRELOAD", "")]))
    if threads:
        env["OPENBLAS_NUM_THREADS"] = env["OMP_NUM_THREADS"] = env["VECLIB_MAXIMUM_THREADS"] = str(threads)
    return env
