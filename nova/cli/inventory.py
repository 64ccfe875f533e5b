"""Every transport plugin that is installed here or allowed, with what it says of itself and what it can do here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint

import msgspec

from nova.cli.output import Plugin, Transports
from nova.cli.show import err
from nova.config.schema import Transport as Policy
from nova.node.addresses import resolve
from nova.node.probechild import probe
from nova.transport.manual import Manual
from nova.transport.probe import Answer, Request
from nova.transport.registry import installed, origin

PATIENCE_S = 2.0
"""After this long the user is told who is waited for."""

MAX_MANUAL_BYTES = 256 << 10


async def inventory(policy: Policy) -> Transports:
    """Ask each plugin in processes of its own, all at once. What is not allowed is listed and not imported."""
    points = installed()
    side = [name for name in policy.side if name not in policy.deny]
    allowed = list(dict.fromkeys([*policy.allowed, *side]))
    resolved = await resolve(policy.hosts)
    asked = {
        name: asyncio.create_task(_ask(Request(name, policy.options.get(name, {}), resolved.addresses, policy.probe_s)))
        for name in allowed
        if len(points.get(name, [])) == 1
    }
    await _patiently(asked)
    plugins = [
        _answered(points[name][0], *asked[name].result())
        if name in asked
        else _unasked(name, points.get(name, []), policy)
        for name in [*allowed, *(name for name in points if name not in allowed)]
    ]
    problems = [f"transport.hosts: {problem}" for problem in resolved.problems]
    problems += [
        f"transport.options.{name}: no such transport is installed" for name in policy.options if name not in points
    ]
    return Transports(hosts=resolved.addresses, problems=problems, plugins=plugins)


async def _ask(request: Request) -> tuple[Manual, Answer]:
    return await asyncio.gather(_manual(request.name, request.limit_s), probe(request))


async def _patiently(asked: dict[str, asyncio.Task[tuple[Manual, Answer]]]) -> None:
    """Wait for all; every one of them has its own limit."""
    try:
        if asked and (await asyncio.wait(asked.values(), timeout=PATIENCE_S))[1]:
            pending = ", ".join(name for name, task in asked.items() if not task.done())
            err.print(f"waiting for {pending} to say what it can do here", style="dim", markup=False)
            await asyncio.wait(asked.values())
    finally:
        for task in asked.values():
            task.cancel()


async def _manual(name: str, limit_s: float) -> Manual:
    """What the plugin's class says; an empty one where its import ends or hangs the process: the probe says how."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nova.transport.manual", name, start_new_session=True, limit=MAX_MANUAL_BYTES,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    data = b""
    try:
        async with asyncio.timeout(limit_s):
            while len(data) <= MAX_MANUAL_BYTES and (more := await process.stdout.read(MAX_MANUAL_BYTES)):
                data += more
        return msgspec.json.decode(data, type=Manual)
    except (TimeoutError, msgspec.DecodeError):
        return Manual()
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _answered(point: EntryPoint, manual: Manual, answer: Answer) -> Plugin:
    """A plugin that was asked. Its own word on why it is not available stands in the offer."""
    offer = answer.offer
    refused = manual.refused or answer.wrong_option
    plugin = _of(
        point.name,
        "refused" if refused else "loaded" if offer is not None and offer.unavailable is None else "unavailable",
        refused or (offer.unavailable or "" if offer is not None else answer.raised),
        [point],
    )
    told = msgspec.structs.replace(plugin, version=manual.version, api=manual.api, options=manual.options)
    if plugin.state != "loaded" or offer is None:
        return told
    return msgspec.structs.replace(
        told, version=offer.version, api=offer.api, caps=offer.caps, attachments=offer.attachments,
        collectives=offer.collectives, alike=offer.alike,
    )  # fmt: skip


def _unasked(name: str, points: Sequence[EntryPoint], policy: Policy) -> Plugin:
    """Nothing of this plugin is imported: it is missing, ambiguous, or not wanted."""
    if not points:
        return _of(name, "missing", "it is allowed, and no installed distribution provides it", points)
    if len(points) > 1:
        return _of(
            name, "refused", f"provided more than once, uninstall all but one: {', '.join(map(origin, points))}", points
        )
    if name in policy.deny:
        return _of(name, "refused", "transport.deny names it", points)
    key = "transport.allow" if policy.allow else "transport.order"
    return _of(name, "refused", f"not in {key}, so it is not asked: add it there to use it", points)


def _of(name: str, state: str, reason: str, points: Sequence[EntryPoint]) -> Plugin:
    dists = [point.dist for point in points if point.dist is not None]
    return Plugin(
        name=name, state=state, reason=reason, targets=[point.value for point in points],
        distributions=[f"{dist.name} {dist.version}" for dist in dists],
    )  # fmt: skip
