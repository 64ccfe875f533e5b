"""One rank as a real process: `python -m tests.conformance.rank TRANSPORT RANK SIZE`.

It prints its card, reads all cards from one line, joins, says so, and then does what each further line tells it:
`recv SRC BYTES`, `send DST BYTES`, `close`.
"""

from __future__ import annotations

import json
import sys

from nova.clock import Deadline
from nova.log import setup
from nova.transport.api import ByteGroup, Seat
from nova.transport.registry import load_transport

from .harness import JOIN_S, TICKET, NoRendezvous


def main(name: str, rank: int, size: int) -> None:
    setup()  # logs go to standard error: what is printed here is the test's
    endpoint = load_transport(name).open(Seat("conformance", 1, rank, size, TICKET))
    print(endpoint.card().hex(), flush=True)
    cards = [bytes.fromhex(card) for card in json.loads(sys.stdin.readline())]
    group = endpoint.join(cards, NoRendezvous(), Deadline.after(JOIN_S))
    assert isinstance(group, ByteGroup)
    endpoint.close()
    print("joined", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["recv", src, count]:
                group.recv_into(bytearray(int(count)), int(src), Deadline.after(60))
            case ["send", dst, count]:
                group.send([bytes(int(count))], int(dst), Deadline.after(60))
            case _:
                group.close(Deadline.after(5))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
