"""One rank of a ring as a real process: `python -m tests.unit.plugins.ring.rank`.

Its seat, options and all that it is to do come as lines of JSON on standard input; what it has to say goes to
standard output likewise. The rendezvous is lent over the same lines.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import structlog

from nova.clock import Deadline, monotonic
from nova.errors import FormingFailed, NovaError
from nova.transport.api import ArrayGroup, CollectiveGroup, Endpoint, Group, Seat
from nova.transport.registry import load_transport

LIMIT_S = 30.0


def say(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def heard() -> dict[str, Any]:
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    values: dict[str, Any] = json.loads(line)
    return values


class Lent:
    """`nova.transport.api.Rendezvous` over the lines. `die_at` is the exchange after which this process ends."""

    def __init__(self, die_at: int) -> None:
        self._die_at = die_at
        self._round = 0

    def all_gather(self, blob: bytes, deadline: Deadline) -> list[bytes]:
        self._round += 1
        say(gather=blob.hex())
        answer = heard()
        if self._round == self._die_at:
            os._exit(0)
        if "failed" in answer:
            raise FormingFailed("gather", "lines", -1, answer["failed"])
        return [bytes.fromhex(each) for each in answer["gathered"]]


def join(endpoint: Endpoint, told: dict[str, Any]) -> Group:
    cards = [bytes.fromhex(card) for card in told["cards"]]
    return endpoint.join(cards, Lent(told.get("die_at", 0)), Deadline.after(told.get("join_s", LIMIT_S)))


def numbers(count: int, dtype: str, seed: int) -> mx.array:
    """Reproducible values of a dtype that both ends can make."""
    found = mx.arange(seed, seed + count, dtype=mx.int32) % 100
    found = found.astype(getattr(mx, dtype))
    mx.eval(found)
    return found


def act(group: Group, told: dict[str, Any]) -> Any:
    assert isinstance(group, ArrayGroup)
    assert isinstance(group, CollectiveGroup)
    limit = Deadline.after(LIMIT_S)
    peer, count, dtype = told.get("peer", 0), told.get("count", 64), told.get("dtype", "float32")
    match told["do"]:
        case "send":
            group.send_array(numbers(count, dtype, told.get("seed", 0)), peer, limit)
        case "recv":
            found = group.recv_array([count], getattr(mx, dtype), peer, limit)
            return bool(mx.array_equal(found, numbers(count, dtype, told.get("seed", 0)))) and found.shape == (count,)
        case "send in a column":
            group.send_array(mx.zeros((8, 8))[:, 0], peer, limit)
        case "recv while sending":  # the receiving thread waits before anything is sent
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(group.recv_array, [count], mx.float32, peer, limit)
                say(waiting=True)
                heard()
                group.send_array(numbers(count, "float32", group.rank), peer, limit)
                return bool(mx.array_equal(pending.result(LIMIT_S), numbers(count, "float32", peer)))
        case "collective":
            ours = mx.array([group.rank + 1, -group.rank], mx.int32)
            return getattr(mx.distributed, told["name"])(ours, group=group.native(), stream=mx.cpu).tolist()
        case "close":
            group.close(limit)
            group.abort()
        case "open again":
            load_transport("ring").open(Seat("again", 1, group.rank, group.size, b"t" * 32))
        case "abort while receiving":
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(group.recv_array, [count], mx.float32, peer, limit)
                say(waiting=True)
                heard()
                group.abort()
                pending.result(LIMIT_S)
    return None


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = heard()
    seat = Seat("test", 1, told["rank"], told["size"], told["ticket"].encode(), tuple(told["hosts"]))
    endpoint = load_transport("ring", told["options"]).open(seat)
    say(card=endpoint.card().hex())
    told = heard()
    begun = monotonic()
    try:
        group = join(endpoint, told)
    except FormingFailed as error:
        say(error=type(error).__name__, text=str(error), seconds=monotonic() - begun)
        return
    say(joined=monotonic() - begun, environment=[name for name in os.environ if name.startswith("MLX_")])
    while True:
        told = heard()
        try:
            say(done=act(group, told))
        except (NovaError, ValueError) as error:
            say(error=type(error).__name__, text=str(error))


if __name__ == "__main__":
    main()
