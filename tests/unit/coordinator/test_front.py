"""The front: a client in the coordinator's own process, whose hang-up frees everything at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from nova.coordinator.model import Bytes
from nova.coordinator.port import Chat, Event, Port, Prompt
from nova.errors import ModelError
from nova.wire.messages import Begin, Cancel, Step
from nova.wire.requests import Accepted, Completed, Failed, Generate, Piece
from nova.wire.work import Outcome, Sampling
from tests.unit.coordinator.test_service import LIMIT_S, Desk, unsettle, until
from tests.unit.coordinator.test_serving import MODEL


def serving(tmp_path: Path, scenario: Callable[[Desk, Port], Awaitable[None]]) -> None:
    """Run it beside a coordinator whose group serves."""

    async def main() -> None:
        desk = Desk(tmp_path)
        desk.ready("main")
        async with asyncio.timeout(LIMIT_S):
            await scenario(desk, desk.coordinator.front)
        desk.coordinator.close()

    asyncio.run(main())


def generate(name: str = "r", prompt: str | list[int] = "hello") -> Generate:
    return Generate(name, prompt, 8, Sampling(), deadline_s=100.0)


async def next_of(events: AsyncGenerator[Event, None]) -> Event:
    return await anext(events)


async def begun(desk: Desk, events: AsyncGenerator[Event, None]) -> Begin:
    """The request is accepted, and its beginning is on the way to the driver."""
    assert await anext(events) == Accepted("r", 5)
    (begin,) = desk.got(Begin)
    return begin


def test_a_request_is_answered_from_its_acceptance_to_its_account(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        async with aclosing(front.ask(generate())) as events:
            begin = await begun(desk, events)
            assert bytes(begin.prompt) == b"hello"
            desk.says("b", Step(begin.engine, [Outcome(begin.stream, list(b"hi"))]))
            desk.says("b", Step(begin.engine, [Outcome(begin.stream, list(b"!"), "length")]))
            first, second, done = [event async for event in events]
        assert (first, second) == (Piece("r", list(b"hi"), "hi"), Piece("r", list(b"!"), "!"))
        assert isinstance(done, Completed)
        assert (done.finish, done.completion_tokens) == ("length", 3)
        assert desk.got(Cancel) == []

    serving(tmp_path, scenario)


def test_requests_of_one_name_do_not_hear_each_other(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        async with aclosing(front.ask(generate())) as one, aclosing(front.ask(generate())) as other:
            assert await anext(one) == await anext(other) == Accepted("r", 5)
            first, second = desk.got(Begin)
            desk.says("b", Step(first.engine, [Outcome(first.stream, [65]), Outcome(second.stream, [66])]))
            assert [await anext(one), await anext(other)] == [Piece("r", [65], "A"), Piece("r", [66], "B")]

    serving(tmp_path, scenario)


def test_a_client_that_hangs_up_frees_its_place_at_once(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        events = front.ask(generate())
        begin = await begun(desk, events)
        await events.aclose()
        assert desk.got(Cancel) == [Cancel(begin.engine, begin.stream)]
        assert desk.coordinator._serving.busy == (0, 0)
        desk.says("b", Step(begin.engine, [Outcome(begin.stream, [65])]))  # was under way

    serving(tmp_path, scenario)


def test_a_task_that_is_cancelled_while_it_waits_hangs_up(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        async def listen() -> None:
            async with aclosing(front.ask(generate())) as events:
                async for _ in events:
                    pass

        task = asyncio.create_task(listen())
        await until(lambda: desk.got(Begin))
        task.cancel()
        await asyncio.wait([task])
        assert len(desk.got(Cancel)) == 1

    serving(tmp_path, scenario)


class Slow(Bytes):
    """Encodes when it is let."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let = threading.Event()

    def encode(self, prompt: str, chat: bool) -> list[int]:
        self.begun.append(prompt)
        assert self.let.wait(LIMIT_S)
        return super().encode(prompt, chat)


def test_a_prompt_whose_client_has_gone_before_its_turn_is_not_encoded(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        slow = Slow()
        desk.coordinator._texts.settle(replace(MODEL, encoder=slow))
        streams = [front.ask(generate(prompt=prompt)) for prompt in ("first", "gone", "third")]
        tasks = [asyncio.create_task(next_of(each)) for each in streams]
        await until(lambda: slow.begun)
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        slow.let.set()
        assert [await tasks[0], await tasks[2]] == [Accepted("r", 5), Accepted("r", 5)]
        assert slow.begun == ["first", "third"]
        assert desk.coordinator._intake._encodings == {}

    serving(tmp_path, scenario)


def test_a_refusal_is_the_only_answer_and_carries_its_code(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        (answer,) = [event async for event in front.ask(generate(prompt=[]))]
        assert isinstance(answer, Failed)
        assert (answer.code, answer.reason) == ("invalid", "the prompt is empty: give at least one token of text")

    serving(tmp_path, scenario)


def test_who_waits_when_the_coordinator_ends_hears_it(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        events = front.ask(generate())
        await begun(desk, events)
        desk.coordinator.close()
        (answer,) = [event async for event in events]
        assert answer == Failed("r", "the coordinator a is shutting down", code="unavailable")
        (refused,) = [event async for event in front.ask(generate())]
        assert isinstance(refused, Failed)
        assert refused.code == "unavailable"
        with pytest.raises(ModelError, match="shutting down"):
            await front.encode("late")

    serving(tmp_path, scenario)


def test_texts_go_to_tokens_and_back(tmp_path: Path) -> None:
    async def scenario(desk: Desk, front: Port) -> None:
        assert await front.encode("né") == [110, 195, 169]
        chat = Chat([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
        assert await front.encode_chat(chat) == Prompt(list(b"a\nb"))
        assert await front.decode([110, 195, 169]) == "né"
        assert await front.decode(list(b"abc") * 1000) == "abc" * 1000
        with pytest.raises(ModelError, match="half of a surrogate pair"):
            await front.encode("\ud83c")
        with pytest.raises(ModelError, match="token 256 is not one of the model's 256"):
            await front.decode([65, 256])

    serving(tmp_path, scenario)


def test_the_front_says_what_is_served_and_why_not(tmp_path: Path) -> None:
    async def main() -> None:
        desk = Desk(tmp_path)
        front: Port = desk.coordinator.front
        assert front.why_not.startswith("generation 1 is being formed")
        desk.ready("main")
        assert front.why_not == ""
        assert front.model is not None
        assert (front.model.name, front.model.context, front.model.vocabulary) == ("m", 50, 256)
        assert front.status().state == "serving"
        unsettle(desk)
        assert front.model is None
        assert front.why_not == "the model is being opened"
        with pytest.raises(ModelError, match="the model is being opened"):
            await front.encode("x")

    asyncio.run(main())
