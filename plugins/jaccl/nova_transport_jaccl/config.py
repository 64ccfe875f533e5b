"""The options of `[transport.options.jaccl]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True)
class JacclConfig:
    """Options of `[transport.options.jaccl]`."""

    facts: str = field(
        default="", metadata={"help": "JSON file of this machine's facts, believed instead of running commands"}
    )
    command_s: Annotated[float, Meta(gt=0)] = field(
        default=4.0, metadata={"help": "s; limit for each command that is asked about this machine"}
    )
    failed_starts: Annotated[int, Meta(ge=1, le=10)] = field(
        default=5, metadata={"help": "failed starts since the machine booted after which JACCL is not tried again"}
    )
