"""What one transport can do here, asked in a process that may be thrown away: `python -m nova.transport.probe`.

A probe runs a plugin's code: it may import MLX, load a driver's library, hang, or crash. It is asked a `Request` and
answers an `Answer` (`nova.throwaway`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from nova.errors import ConfigError, PluginRefused, TransportUnavailable
from nova.throwaway import Child
from nova.transport.api import Options
from nova.transport.offers import describe
from nova.transport.registry import load_transport
from nova.wire.values import Record, TransportOffer

MAX_ANSWER_BYTES = 256 << 10


class Request(Record, frozen=True):
    """`hosts` are this node's numeric addresses, best first; `limit_s` is what whoever asks will wait."""

    name: str
    options: dict[str, Any]
    hosts: list[str]
    limit_s: float


class Answer(Record, frozen=True):
    """One of the three: the offer, an option that the user has to mend, or what the plugin raised against its word."""

    offer: TransportOffer | None = None
    wrong_option: str = ""
    raised: str = ""


def ask(name: str, options: Options, hosts: Sequence[str]) -> Answer:
    """Load and probe in this process. Raises whatever the plugin should not have raised."""
    try:
        transport = load_transport(name, options)
    except PluginRefused as error:
        return Answer(TransportOffer(name, unavailable=error.why))
    except ConfigError as error:
        return Answer(wrong_option=str(error))
    try:
        info = transport.probe(hosts)
    except TransportUnavailable as error:
        return Answer(TransportOffer(name, unavailable=str(error) or "its probe gave no reason"))
    return Answer(describe(info))


def main() -> None:
    child = Child()
    request = msgspec.json.decode(child.asked(), type=Request)
    child.guard(request.limit_s, lambda why: Answer(raised=why))
    child.answer(ask(request.name, request.options, request.hosts))


if __name__ == "__main__":
    main()
