"""Transports that misbehave, one for each place and way: `h-join-hang`, `h-verify-segv`, ... Made from tcp.

For tests only: `install` makes a distribution of it that is found by whoever has the returned PYTHONPATH.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from nova_transport_tcp import TcpConfig, TcpTransport

from nova.clock import Deadline
from nova.errors import TransferTimeout
from nova.transport.api import (
    Buffer,
    ByteGroup,
    Caps,
    Endpoint,
    Group,
    Rendezvous,
    Seat,
    TransportInfo,
    WritableBuffer,
)

from .deeds import DEEDS, hang

CASES: dict[str, list[str]] = {
    "probe": ["hang", "hang-gil", "segv", "exit", "raise", "log", "lie"],
    "open": ["hang", "hang-gil", "segv", "exit", "raise", "log", "lie"],
    "card": ["hang", "hang-gil", "segv", "exit", "raise", "flood", "lie"],
    "join": ["hang", "hang-gil", "segv", "exit", "raise", "flood", "lie"],
    "odd": ["sys-exit", "error", "long", "threads", "child", "none", "caps"],
    "verify": ["hang", "hang-gil", "segv", "exit", "raise", "flood", "lie"],
    "send": ["hang", "hang-gil", "segv", "exit", "raise", "flood", "lie", "stuck"],
    "recv": ["hang-gil", "segv", "exit", "raise", "lie", "sys-exit", "early"],
}
"""Where and how. `odd` is in join too; `verify` is the first send, `send` and `recv` come after `after` good calls."""

GARBAGE = bytes(4096)


@dataclass(frozen=True)
class HostileConfig(TcpConfig):
    """Those of tcp, and when it misbehaves."""

    rank: int = field(default=1, metadata={"help": "the rank that misbehaves; -1 is all of them"})
    after: int = field(default=26, metadata={"help": "calls of send or recv that are good; VERIFY makes 22"})


class HostileTransport(TcpTransport):
    """A tcp that strikes at `where` in the way of `how`."""

    where: ClassVar[str]
    how: ClassVar[str]
    Config: ClassVar[type[Any]] = HostileConfig

    def probe(self, hosts: Sequence[str]) -> TransportInfo:
        self.strike("probe")
        info = dataclasses.replace(super().probe(hosts), name=self.name)
        return dataclasses.replace(info, name="tcp", caps=~Caps(0)) if self.plans("probe", "lie") else info

    def open(self, seat: Seat) -> Any:
        if self.config.rank not in (-1, seat.rank):
            return super().open(seat)
        self.strike("open")
        return None if self.plans("open", "lie") else HostileEndpoint(self, super().open(seat))

    def plans(self, where: str, how: str) -> bool:
        return (self.where, self.how) == (where, how)

    def strike(self, where: str) -> None:
        if where == self.where and self.how in DEEDS:
            DEEDS[self.how]()


class HostileEndpoint(Endpoint):
    """A tcp endpoint of the rank that misbehaves."""

    def __init__(self, owner: HostileTransport, inner: Endpoint) -> None:
        self._owner = owner
        self._inner = inner

    def card(self) -> bytes:
        self._owner.strike("card")
        if self._owner.plans("card", "flood"):
            return bytes(1 << 30)
        return self._inner.card()[:-3] if self._owner.plans("card", "lie") else self._inner.card()

    def join(self, cards: Sequence[bytes], rendezvous: Rendezvous, deadline: Deadline) -> Any:
        self._owner.strike("join")
        self._owner.strike("odd")
        while self._owner.plans("join", "flood"):
            rendezvous.all_gather(bytes(1024), deadline)
        group = self._inner.join(cards, rendezvous, deadline)
        return None if self._owner.plans("odd", "none") else HostileGroup(self._owner, group)

    def close(self) -> None:
        self._inner.close()


class HostileGroup(ByteGroup):
    """A tcp group of the rank that misbehaves."""

    def __init__(self, owner: HostileTransport, inner: Group) -> None:
        assert isinstance(inner, ByteGroup)
        self._owner = owner
        self._inner = inner
        self._good = {"verify": 0, "send": owner.config.after, "recv": owner.config.after}
        self.rank = inner.rank + 1 if owner.plans("join", "lie") else inner.rank
        self.size = inner.size
        self.caps = inner.caps | Caps.COLLECTIVES if owner.plans("odd", "caps") else inner.caps

    def send(self, parts: Sequence[Buffer], dst: int, deadline: Deadline) -> None:
        if self._is_due("verify", "send"):
            match self._owner.how:
                case "lie":
                    parts = [bytes(len(part)) for part in parts]
                case "flood":
                    while not deadline.expired:
                        self._inner.send([GARBAGE], dst, deadline)
                case "stuck":
                    raise ValueError("this plugin is hostile, and hangs in its abort")
        self._inner.send(parts, dst, deadline)

    def recv_into(self, out: WritableBuffer, src: int, deadline: Deadline) -> None:
        if self._is_due("recv"):
            match self._owner.how:
                case "lie":
                    return
                case "early":
                    raise TransferTimeout("this plugin is hostile")
        self._inner.recv_into(out, src, deadline)

    def close(self, deadline: Deadline) -> None:
        self._inner.close(deadline)

    def abort(self) -> None:
        if self._owner.how == "stuck":
            hang()
        self._inner.abort()

    def _is_due(self, *calls: str) -> bool:
        """Count a call of one of these kinds, and strike if its time has come."""
        where = self._owner.where
        if where not in calls:
            return False
        self._good[where] -= 1
        if self._good[where] >= 0:
            return False
        self._owner.strike(where)
        return True


def names(*places: str) -> list[str]:
    """The transports that misbehave at these places, in the order of CASES."""
    return [f"h-{where}-{how}" for where in places for how in CASES[where]]


def install(folder: Path) -> str:
    """Write what makes this package a distribution into `folder`; the PYTHONPATH under which it is found."""
    info = folder / "nova_transport_hostile-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nova-transport-hostile\nVersion: 0.1.0\n")
    points = "".join(f"{name} = nova_transport_hostile:{name.replace('-', '_')}\n" for name in names(*CASES))
    (info / "entry_points.txt").write_text(f"[nova.transports]\n{points}")
    here = str(Path(__file__).parents[1])
    return os.pathsep.join(filter(None, (str(folder), here, os.environ.get("PYTHONPATH", ""))))


for _where, _hows in CASES.items():
    for _how in _hows:
        _name = f"h-{_where}-{_how}"
        _body = {"name": _name, "where": _where, "how": _how}
        globals()[_name.replace("-", "_")] = type("Hostile", (HostileTransport,), _body)
