"""A faster BLAS for engines on Linux.

The Linux wheel of MLX calls the reference BLAS; another one is preloaded into the engine. `tools/bench blas` measures
what is installed. On two x86 cores (Xeon, family 6 model 167), with SmolLM2-135M in float32, OpenBLAS 0.3.21 made
prefill 10 times and decode 1.7 times faster. BLIS 0.9 took decode another 1.4 to 1.6 times further, where OpenBLAS
spends half of a step on packing weights for a few rows; prefill was a third slower than OpenBLAS's.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nova.errors import ConfigError

KNOWN = ("blis", "openblas")
"""By their libraries' names; `auto` takes the first that is installed: most of a request's time is decode."""
HELP = (
    "engines run on the reference BLAS: installing BLIS or OpenBLAS (package libblis4-openmp or libopenblas0-pthread) "
    "makes them much faster"
)
HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Weights in huge pages: their pages' table then fits the CPU. 4 % less time for a decode step, with BLIS."""


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
    """What `engine.cpu_blas` means on this machine. Raises ConfigError for what is neither known nor a file."""
    if system != "Linux" or setting == "off":
        return Blas(None)
    if setting == "auto":
        found = next(filter(None, map(find, KNOWN)), None)
        return Blas(found) if found else Blas(None, HELP)
    if setting in KNOWN:
        library = find(setting)
        if library is None:
            raise ConfigError(f"engine.cpu_blas: no library of {setting!r} on this machine; auto takes what there is")
        return Blas(library)
    if not Path(setting).is_file():
        expected = f"auto, off, {', '.join(KNOWN)}, or the path of a BLAS"
        raise ConfigError(f"engine.cpu_blas: no library at {setting!r}; expected {expected}")
    return Blas(setting)


def engine_environment(blas: Blas, threads: int, inherited: dict[str, str]) -> dict[str, str]:
    """An engine's: that of its BLAS, and its weights in huge pages."""
    env = environment(blas, threads, inherited)
    env["GLIBC_TUNABLES"] = ":".join(filter(None, [env.get("GLIBC_TUNABLES", ""), HUGE_PAGES]))
    return env


def environment(blas: Blas, threads: int, inherited: dict[str, str]) -> dict[str, str]:
    """Ours, with the library preloaded and its threads bounded; 0 is one for each CPU."""
    env = dict(inherited)
    if blas.library:
        env["LD_PRELOAD"] = ":".join(filter(None, [blas.library, env.get("LD_PRELOAD", "")]))
        env.setdefault("BLIS_NUM_THREADS", str(os.cpu_count() or 1))  # it would take one
    if threads:
        env |= {f"{name}_NUM_THREADS": str(threads) for name in ("BLIS", "OPENBLAS", "OMP", "VECLIB_MAXIMUM")}
    return env
