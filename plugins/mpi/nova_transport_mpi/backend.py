"""MLX's MPI backend in this process. It forms one group for the life of the process, and nothing ends that group."""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import Any

from nova.errors import TransportUnavailable
from nova_transport_mpi import library
from nova_transport_mpi.errors import failed, translate
from nova_transport_mpi.world import Place

_taken = threading.Lock()
"""Held from the first init on."""


def check_free() -> None:
    """Raises TransportUnavailable once this process has joined a world."""
    if _taken.locked():
        raise TransportUnavailable("MLX forms one MPI group in the life of a process: start another engine")


def available(path: str) -> str:
    """MLX's version. Raises TransportUnavailable."""
    with library.environment({library.LIBRARY_VARIABLE: path}):
        try:
            import mlx.core as mx
        except ImportError as error:
            raise translate(error) from error
        if not mx.distributed.is_available("mpi"):
            raise TransportUnavailable(f"MLX {version('mlx')} does not take {path} as its MPI library")
    return version("mlx")


def init(path: str, place: Place, rank: int, size: int, network: str) -> Any:
    """The `mx.distributed.Group` of all ranks. Raises FormingFailed; MPI itself ends the process where it cannot start.

    Holds the interpreter's lock meanwhile: 0.1 to 0.2 s on one machine (two ranks, two cores, mlx 0.32.4).
    """
    import mlx.core as mx

    if not _taken.acquire(blocking=False):
        raise failed(rank, "MLX forms one MPI group in the life of a process: start another engine")
    with library.environment({**place, **parameters(place, network), library.LIBRARY_VARIABLE: path}):
        try:
            group = mx.distributed.init(strict=True, backend="mpi")
        except (RuntimeError, ValueError) as error:
            raise translate(error, forming=rank) from error
    if (group.rank(), group.size()) != (rank, size):
        raise failed(rank, f"MPI made this rank {group.rank()} of {group.size()} instead of {rank} of {size}")
    level = library.thread_level(path)
    if level != library.MULTIPLE:
        raise failed(rank, f"this Open MPI lets threads call at level {level} of {library.MULTIPLE} only")
    return group


def parameters(place: Place, network: str) -> dict[str, str]:
    """How Open MPI is to connect: by TCP in a network; when none is given by shared memory, in mpirun's folder.

    The network is one that an interface here has ("192.168.2.0/24"): another is passed over without a word.

    MLX calls MPI_Init, which asks for one thread only; the engine has two, and sends while it receives. Open MPI takes
    the level from the environment then. Without it two threads of a rank wait for ever (tried with 5.0.11).
    """
    common = {"OMPI_MPI_THREAD_LEVEL": str(library.MULTIPLE), "OMPI_MCA_pml": "ob1"}
    if network:
        tcp = {"OMPI_MCA_btl_tcp_if_include": network, "OMPI_MCA_btl_tcp_disable_family": "6"}
        return {**common, **tcp, "OMPI_MCA_btl": "self,tcp"}
    return {**common, "OMPI_MCA_btl": "self,sm", "OMPI_MCA_btl_sm_backing_directory": place["PMIX_SERVER_TMPDIR"]}
