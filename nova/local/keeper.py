"""Daemons of a throw-away cluster that stays: one that ends is started again, and the deployment forms anew with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nova.clock import Clock, Deadline, monotonic
from nova.errors import EngineError
from nova.local.cluster import START_S, LocalCluster

PAUSE_S = 0.25
"""s; before a daemon is started again. It doubles while the daemon does not last."""
PAUSE_MAX_S = 30.0
LASTS_S = 60.0
"""s; a daemon that ran for this long has lasted."""


async def keep(cluster: LocalCluster, tell: Callable[[str], None], clock: Clock = monotonic) -> None:
    """Until cancelled. `tell` hears, in words, how each daemon ended and what was done about it."""
    async with asyncio.TaskGroup() as group:
        for index in range(cluster.plan.nodes):
            group.create_task(_keep(cluster, index, tell, clock))


async def _keep(cluster: LocalCluster, index: int, tell: Callable[[str], None], clock: Clock) -> None:
    pause = PAUSE_S
    while True:
        since = clock()
        how = await cluster.daemons[index].ended()
        pause = PAUSE_S if clock() - since >= LASTS_S else pause
        tell(f"{how}; it is started again in {pause:g} s")
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE_MAX_S)
        try:
            await cluster.restart(index, Deadline.after(START_S, clock))
        except EngineError as error:
            tell(str(error))
