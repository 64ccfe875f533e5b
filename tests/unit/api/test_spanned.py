"""A port whose requests leave spans."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import cast

from nova.api.spanned import SpannedPort
from nova.api.spans import Spans
from nova.coordinator.port import Event
from nova.wire.requests import Completed, Failed, Generate
from nova.wire.work import Sampling
from tests.unit.api.fake import MODEL, FakePort


class Noted:
    """As Spans, without a collector."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, Completed | Failed, int]] = []

    def ended(self, model: str, completed: Completed | Failed, started_unix_ns: int) -> None:
        self.ends.append((model, completed, started_unix_ns))


async def asked(port: FakePort, noted: Noted, most: int) -> list[Event]:
    spanned, heard = SpannedPort(port, cast(Spans, noted)), []
    async with aclosing(spanned.ask(Generate("r", [1], 4, Sampling()))) as events:
        async for event in events:
            heard.append(event)
            if len(heard) == most:
                break
    return heard


def test_the_end_of_a_request_leaves_a_span_and_every_event_is_passed_on() -> None:
    noted = Noted()
    heard = asyncio.run(asked(FakePort(), noted, 100))
    ((model, end, started_ns),) = noted.ends
    assert (model, end) == (MODEL, heard[-1])
    assert started_ns > 0
    assert len(heard) == 6


def test_a_failure_leaves_one_too() -> None:
    noted, failed = Noted(), Failed("r", "gone")
    asyncio.run(asked(FakePort(failure=failed), noted, 100))
    assert [end for _, end, _ in noted.ends] == [failed]


def test_a_request_that_is_given_up_is_abandoned_and_leaves_none() -> None:
    noted, port = Noted(), FakePort(held=True)
    asyncio.run(asked(port, noted, 1))
    assert (noted.ends, port.abandoned.get_nowait()) == ([], "r")
