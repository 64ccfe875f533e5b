"""The numeric addresses behind `transport.hosts`, which may name them."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nova.transport.network import scoped
from nova.transport.routes import MAX_ADDRESSES

RESOLVE_S = 3.0
"""Limit for all names together; a resolver that waits for a server that is gone takes longer."""

Lookup = Callable[[str], list[str]]
"""The numeric addresses of a name, in the order of the system's resolver. Raises OSError; may block."""


@dataclass(frozen=True)
class Resolved:
    """`addresses` are numeric, without duplicates, best first; `problems` says what each troubled name entails."""

    addresses: list[str]
    problems: list[str]


def look_up(name: str) -> list[str]:
    """`Lookup` by the system's resolver; a link-local IPv6 address has its scope."""
    return [scoped(found[4]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


async def resolve(hosts: Sequence[str], lookup: Lookup = look_up, limit_s: float = RESOLVE_S) -> Resolved:
    """All hosts at once. In the place of a name come its IPv4 addresses and then its IPv6 ones."""
    found = await asyncio.gather(*(_addresses(host, lookup, limit_s) for host in hosts))
    addresses = list(dict.fromkeys(address for each, _ in found for address in each))
    problems = [problem for _, problem in found if problem]
    if len(addresses) > MAX_ADDRESSES:
        problems.append(f"transport.hosts are {len(addresses)} addresses, the first {MAX_ADDRESSES} are used")
    return Resolved(addresses[:MAX_ADDRESSES], problems)


async def _addresses(host: str, lookup: Lookup, limit_s: float) -> tuple[list[str], str]:
    """The addresses of one host, and what is wrong with them, or ""."""
    host = host.removeprefix("[").removesuffix("]")
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))], ""
    try:
        async with asyncio.timeout(limit_s):
            found = await _in_thread(lookup, host)
    except TimeoutError:
        return [], f"{host} was not resolved within {limit_s:g} s, so peers cannot dial this node by it"
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that is too long
        return [], f"{host} does not resolve ({error}), so peers cannot dial this node by it"
    six = [address for address in found if ":" in address]
    four = [address for address in found if ":" not in address]
    if not four:
        return six, f"{host} resolves to IPv6 only ({', '.join(six)}), so transports that speak IPv4 cannot use it"
    if all(ipaddress.ip_address(address).is_loopback for address in four + six):
        return four + six, f"{host} resolves to {four[0]}, which only this machine itself can dial"
    return four + six, ""


async def _in_thread(lookup: Lookup, host: str) -> list[str]:
    """The lookup in a thread of its own, which nothing waits for at the end, as it does for an executor's."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(found: list[str], error: OSError | UnicodeError | None) -> None:
        if answer.done():  # given up meanwhile
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def work() -> None:
        found: list[str] = []
        failure: OSError | UnicodeError | None = None
        try:
            found = lookup(host)
        except (OSError, UnicodeError) as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended before the resolver
            loop.call_soon_threadsafe(settle, found, failure)

    threading.Thread(target=work, name="nova-resolver", daemon=True).start()
    return await answer
