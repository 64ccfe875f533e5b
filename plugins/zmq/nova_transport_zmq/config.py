"""The options of `[transport.options.zmq]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class ZmqConfig:
    """Options of `[transport.options.zmq]`."""

    curve: bool = field(default=True, metadata={"help": "encrypt with CURVE; all nodes must agree"})
    handshake_s: Annotated[float, Meta(gt=0)] = field(
        default=2.0, metadata={"help": "s; a connection that has not proved itself by then is dropped"}
    )
    io_threads: Annotated[int, Meta(ge=1)] = field(
        default=1, metadata={"help": "threads of ZeroMQ that move and encrypt bytes"}
    )
    queue: Annotated[int, Meta(ge=1)] = field(
        default=8, metadata={"help": "frames of up to 1 MiB kept per direction on each side before a sender waits"}
    )
    keepalive_s: Annotated[int, Meta(ge=1)] = field(
        default=5, metadata={"help": "s; an idle peer that answers nothing for about twice this counts as lost"}
    )
