"""The options of `[transport.options.ring]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class RingConfig:
    """Options of `[transport.options.ring]`. Raises ValueError for a range of ports that is none."""

    ports: str | tuple[int, int] = field(
        default="29500-29999", metadata={"help": "TCP ports to listen on, first-last or [first, last]; open them"}
    )
    sockets: Annotated[int, Meta(ge=0, le=16)] = field(
        default=0,
        metadata={
            "help": "most connections to each neighbour, each to another address of it; 0 takes every address whose "
            "interface is as fast as the best one's, because MLX cuts each message into equal parts; each connection "
            "beyond the first costs 1 s per rank to form"
        },
    )
    dial_s: Annotated[float, Meta(gt=0)] = field(
        default=2.0, metadata={"help": "s; limit for a neighbour to prove itself at each of its addresses"}
    )
    handshake_s: Annotated[float, Meta(gt=0)] = field(
        default=2.0, metadata={"help": "s; a connection that has not proved itself by then is dropped"}
    )
    candidates: Annotated[int, Meta(ge=1)] = field(
        default=64, metadata={"help": "unproved connections kept at once; one more drops the oldest"}
    )
    head_start_s: Annotated[float, Meta(ge=0)] = field(
        default=0.05,
        metadata={"help": "s; the last rank dials so much after the others listen; too short costs 1 s"},
    )
    verbose: bool = field(
        default=False, metadata={"help": "let MLX write each step of its ring's init to the engine's standard error"}
    )

    def __post_init__(self) -> None:
        if not self.port_range:
            raise ValueError(f"ports must be first-last within 1-65535, not {self.ports!r}")

    @property
    def port_range(self) -> range:
        """The ports; empty where `ports` does not say any."""
        first, last = self.ports.partition("-")[::2] if isinstance(self.ports, str) else map(str, self.ports)
        if not (first.strip().isdecimal() and last.strip().isdecimal() and int(first) > 0 and int(last) < 1 << 16):
            return range(0)
        return range(int(first), int(last) + 1)
