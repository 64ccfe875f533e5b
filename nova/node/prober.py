"""What this node offers: every transport probed in a child that is thrown away, again whenever the network changes.

The daemon itself imports no plugin. Whatever a probe does, it costs its transport, and says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import structlog

from nova.clock import Deadline
from nova.config.schema import Transport
from nova.errors import ConfigError
from nova.node.addresses import Resolved, resolve
from nova.node.probechild import probe
from nova.transport.network import Snapshot, snapshot
from nova.transport.probe import Request
from nova.wire.values import TransportOffer

log = structlog.get_logger(__name__)

WATCH_S = 2.0
"""Between two looks at the interfaces; one look takes less than a millisecond."""

RETRY_S = 30.0
"""Until a name that did not resolve is looked up again: a resolver may come up later than this daemon."""


class Prober:
    """Probes the transports of one configuration. `look` and `watch` are for one task."""

    def __init__(self, config: Transport, network: Callable[[], Snapshot] = snapshot) -> None:
        self._config = config
        self._network = network
        self._seen: Snapshot | None = None
        self._resolved = Resolved([], [])
        self._retry: Deadline | None = None

    async def look(self) -> list[TransportOffer]:
        """Resolve this node's addresses, and probe. Raises ConfigError for a wrong option: the user has to mend it."""
        self._seen = self._glance()  # before, so that a change meanwhile is not missed
        await self._resolve()
        return await probe_all(self._config, self._resolved)

    async def watch(self, found: Callable[[list[TransportOffer]], None], every_s: float = WATCH_S) -> None:
        """Until cancelled: look again whenever an interface or address has changed, and tell what was found."""
        while True:
            await asyncio.sleep(every_s)
            if self._glance() in (None, self._seen) and not await self._resolves_anew():
                continue
            try:
                found(await self.look())
            except ConfigError as error:  # a plugin was replaced under a running node
                log.error("transports keep their last offers", why=str(error))

    async def _resolves_anew(self) -> bool:
        """Whether it was time to look troubled names up again, and they have other addresses."""
        return self._retry is not None and self._retry.expired and await self._resolve()

    async def _resolve(self) -> bool:
        """Look the names up; whether anything about them has changed."""
        before, self._resolved = self._resolved, await resolve(self._config.hosts)
        self._retry = Deadline.after(RETRY_S) if self._resolved.problems else None
        if self._resolved == before:
            return False
        for problem in self._resolved.problems:
            log.warning("transport.hosts", problem=problem)
        return True

    def _glance(self) -> Snapshot | None:
        """The interfaces; None when one went away while they were read, which the next glance sees."""
        try:
            return self._network()
        except OSError as error:
            log.debug("interfaces could not be read", reason=str(error))
            return None


async def probe_all(config: Transport, resolved: Resolved) -> list[TransportOffer]:
    """One offer for each transport that may be used or carry headers, all probed at once. Raises ConfigError."""
    side = [name for name in config.side if name not in config.deny]
    requests = [
        Request(name, config.options.get(name, {}), resolved.addresses, config.probe_s)
        for name in dict.fromkeys([*config.allowed, *side])
    ]
    answers = await asyncio.gather(*(probe(request) for request in requests))
    for answer in answers:
        if answer.wrong_option:
            raise ConfigError(answer.wrong_option)
    offers = [answer.offer for answer in answers if answer.offer is not None]
    return [_with_problems(offer, resolved.problems) for offer in offers]


def _with_problems(offer: TransportOffer, problems: Sequence[str]) -> TransportOffer:
    """A transport that is unavailable may be so because of a name; then the reason is not the transport's alone."""
    if offer.unavailable is None or not problems:
        return offer
    return msgspec.structs.replace(offer, unavailable="; ".join([offer.unavailable, *problems]))
