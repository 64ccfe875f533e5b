"""The options of `[transport.options.tcp]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class TcpConfig:
    """Options of `[transport.options.tcp]`."""

    handshake_s: Annotated[float, Meta(gt=0)] = field(
        default=2.0, metadata={"help": "s; a connection that has not proved itself by then is dropped"}
    )
    candidates: Annotated[int, Meta(ge=1)] = field(
        default=64, metadata={"help": "unproved connections kept at once; one more drops the oldest"}
    )
    staging_bytes: Annotated[int, Meta(ge=512)] = field(
        default=64 << 10, metadata={"help": "bytes; one receive takes up to this, so that small parts share it"}
    )
    keepalive_s: Annotated[int, Meta(ge=1)] = field(
        default=5, metadata={"help": "s; an idle peer that answers nothing for about twice this counts as lost"}
    )
