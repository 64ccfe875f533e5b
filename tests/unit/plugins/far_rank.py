"""One rank of a pair on a machine of the lab: `python -m tests.unit.plugins.far_rank TRANSPORT RANK JOIN_S HOST ...`.

It prints its card in hex, reads both cards from one line, joins, passes a part to and fro, and prints on one line how
long the join took, or why it failed. Logs go to standard error.
"""

from __future__ import annotations

import json
import sys

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed
from nova.log import setup
from nova.transport.api import ByteGroup, Seat
from nova.transport.registry import load_transport


class NoRendezvous:
    """These transports form by their cards alone."""

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        raise FormingFailed("join", "test", -1, "no rendezvous was lent")


def main(name: str, rank: int, join_s: float, hosts: list[str]) -> None:
    setup()
    endpoint = load_transport(name).open(Seat("far", 1, rank, 2, b"t" * 32, tuple(hosts)))
    print(endpoint.card().hex(), flush=True)
    cards = [bytes.fromhex(card) for card in json.loads(sys.stdin.readline())]
    begun = monotonic()
    try:
        group = endpoint.join(cards, NoRendezvous(), Deadline.after(join_s))
    except FormingFailed as error:
        print(json.dumps({"failed": error.cause}), flush=True)
        return
    took = monotonic() - begun
    assert isinstance(group, ByteGroup)
    group.send([b"x" * 100_000], 1 - rank, Deadline.after(join_s))
    group.recv_into(bytearray(100_000), 1 - rank, Deadline.after(join_s))
    print(json.dumps({"joined": took}), flush=True)
    sys.stdin.readline()  # the other may still be reading
    group.close(Deadline.after(join_s))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])
