"""What mpirun starts in place of an engine: `python place.py FOLDER`. Standard library only, no MPI.

Each copy says which environment mpirun gave it, and then holds the place for as long as the engine of rank 0 lives.
mpirun ends all copies when one ends. PMIx, over which Open MPI's processes find each other, knows a process by that
environment and not by its id, so an engine that takes it over is that rank.

The copy of rank 0 keeps a connection to the socket in the folder, which the engine of rank 0 listens on: its end is
the engine's, however that came. The folder goes with it, because an engine and an mpirun that are killed cannot remove
what they leave there. A copy whose standard output has no reader knows that mpirun is gone.
"""

import base64
import json
import os
import select
import shutil
import socket
import sys

SOCKET = "engine"

NAMES = frozenset({
    "PMIX_BFROP_BUFFER_TYPE", "PMIX_GDS_MODULE", "PMIX_HOSTNAME", "PMIX_NAMESPACE", "PMIX_RANK", "PMIX_SECURITY_MODE",
    "PMIX_SERVER_TMPDIR", "PMIX_SERVER_URI4", "PMIX_SERVER_URI41", "PMIX_SYSTEM_TMPDIR", "PMIX_VERSION",
    "PRTE_LAUNCHED", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
})  # fmt: skip
"""What makes a process a rank. No parameter of Open MPI (OMPI_MCA_...) is among them: some name code to load."""


def main() -> None:
    folder, rank = sys.argv[1], os.environ["PMIX_RANK"]
    given = {name: value for name, value in os.environ.items() if name in NAMES}
    said = base64.b64encode(json.dumps(given).encode()).decode()
    poller = select.poll()
    poller.register(1, 0)  # errors and hang-up only
    with socket.socket(socket.AF_UNIX) as engine:
        if rank == "0":
            engine.connect(os.path.join(folder, SOCKET))
            poller.register(engine, select.POLLIN)
        os.write(1, f"<{rank} {said}>\n".encode())
        poller.poll()
    if rank == "0":
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(1)  # a failure in mpirun's eyes, so that it ends the other copies
