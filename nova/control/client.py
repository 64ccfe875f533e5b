"""A client of the cluster, as the commands use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from nova import __version__
from nova.clock import Clock, Deadline, monotonic
from nova.config.schema import Control
from nova.control.keys import KeyPair
from nova.control.requests import Requests
from nova.control.spoke import Spoke
from nova.errors import ControlError, GenerationError, NodeLost, NovaError, PeerRefused, ProtocolError
from nova.ids import new_request_id
from nova.wire.messages import Hello, Message, Welcome
from nova.wire.plans import PlanReport
from nova.wire.requests import (
    Abandon,
    Accepted,
    CheckQuery,
    CheckReply,
    Completed,
    Embedded,
    ExplainQuery,
    ExplainReply,
    Failed,
    Generate,
    Piece,
    PlanQuery,
    PlanReply,
    StatusQuery,
    StatusReply,
    TraceQuery,
    TraceReply,
)

GRACE_S = 2.0
"""What the coordinator's word on a passed deadline may take to come."""

GenerateEvent = Accepted | Piece | Completed | Embedded
_Answer = GenerateEvent | Failed | StatusReply | ExplainReply | CheckReply | TraceReply | PlanReply
_LAST = (Completed, Embedded, Failed, StatusReply, ExplainReply, CheckReply, TraceReply, PlanReply)
_Reply = TypeVar("_Reply", StatusReply, ExplainReply, CheckReply, TraceReply, PlanReply)


class Client:
    """Made by `Client.connect`. Any number of requests may run at once; to be used from one event loop."""

    def __init__(
        self, address: str, server_key: str, keypair: KeyPair, name: str, control: Control, clock: Clock
    ) -> None:
        self._peer = f"the coordinator at {address}"
        self._clock = clock
        self._requests = Requests()
        # Unbounded, yet no longer than the answer that was asked for.
        self._answers: dict[str, asyncio.Queue[_Answer | NovaError]] = {}
        self._settled = asyncio.Event()
        self.spoke = Spoke(
            address, server_key, keypair, lambda: Hello(name, "client", __version__), control, self, clock
        )

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        address: str,
        server_key: str,
        keypair: KeyPair,
        name: str,
        deadline: Deadline,
        control: Control | None = None,
        clock: Clock = monotonic,
    ) -> AsyncIterator[Client]:
        """A client with a session; requests left open at the end are abandoned.

        Raises NodeLost saying why there is no session by the deadline, and PeerRefused at once if we are not wanted.
        """
        client = cls(address, server_key, keypair, name, control or Control(), clock)
        running = asyncio.create_task(client.spoke.run())
        try:
            await client._established(running, deadline)
            yield client
        finally:
            await client.spoke.close("client is done")
            with suppress(PeerRefused):  # each request has been told
                await running

    async def generate(self, ask: Generate) -> AsyncGenerator[GenerateEvent, None]:
        """Accepted, then pieces, then Completed; for a request with `pool` Embedded in place of these. Leaving early
        abandons the request, once the iterator is closed: wrap it in `contextlib.aclosing` where that must happen at
        once.

        Raises GenerationError with the coordinator's reason, NodeLost if the coordinator dies, RequestTimeout at
        the request's deadline, ProtocolError if the prompt is too large.
        """
        done = False
        # The coordinator keeps the deadline and knows why it passed; ours is for one that does not answer.
        self._open(ask, ask.request, "end of the text", ask.deadline_s + GRACE_S)
        try:
            while not done:
                answer = await self._answer(ask.request)
                if isinstance(answer, Failed):
                    done = True
                    raise GenerationError(answer.reason)
                if not isinstance(answer, GenerateEvent):
                    done = True
                    raise ProtocolError(f"{self._peer} answered a generation with {type(answer).__name__}")
                done = isinstance(answer, Completed | Embedded)
                yield answer
        finally:
            self._close(ask.request)
            if not done:
                with suppress(NodeLost):  # gone, and the request with it
                    self.spoke.send(Abandon(ask.request))

    async def status(self, deadline_s: float = 5.0) -> StatusReply:
        """The cluster at this moment. Raises NodeLost, or RequestTimeout after `deadline_s` seconds."""
        request = new_request_id()
        return await self._ask(StatusQuery(request), request, "status", StatusReply, deadline_s)

    async def explain(self, deadline_s: float = 5.0) -> ExplainReply:
        """Why the deployment uses its transport. Raises NodeLost, or RequestTimeout after `deadline_s` seconds."""
        request = new_request_id()
        return await self._ask(ExplainQuery(request), request, "explanation", ExplainReply, deadline_s)

    async def trace(self, target: str = "", deadline_s: float = 10.0) -> TraceReply:
        """The chunks of the request `target`, "" for the one that ended last.

        Raises ControlError when nothing is kept of it, NodeLost, or RequestTimeout after `deadline_s` seconds.
        """
        request = new_request_id()
        return await self._ask(TraceQuery(request, target), request, "trace", TraceReply, deadline_s)

    async def check(self, query: CheckQuery, deadline_s: float) -> CheckReply:
        """One case of the conformance kit on the nodes of the cluster; leaving early ends it there.

        Raises ControlError with the coordinator's reason, NodeLost, or RequestTimeout after `deadline_s` seconds.
        """
        try:
            return await self._ask(query, query.request, "end of the case", CheckReply, deadline_s)
        except asyncio.CancelledError:
            with suppress(NodeLost):  # gone, and the case with it
                self.spoke.send(Abandon(query.request))
            raise

    async def plan(self, query: PlanQuery, deadline_s: float = 60.0) -> PlanReport:
        """Where the layers of a model would best go. A node that has not been measured with it needs some seconds.

        Raises ControlError with the coordinator's reason, NodeLost, or RequestTimeout after `deadline_s` seconds.
        """
        return (await self._ask(query, query.request, "plan", PlanReply, deadline_s)).report

    async def _ask(self, query: Message, request: str, awaited: str, reply: type[_Reply], deadline_s: float) -> _Reply:
        self._open(query, request, awaited, deadline_s)
        try:
            answer = await self._answer(request)
        finally:
            self._close(request)
        if isinstance(answer, Failed):
            raise ControlError(answer.reason)
        if not isinstance(answer, reply):
            raise ProtocolError(f"{self._peer} answered {type(query).__name__} with {type(answer).__name__}")
        return answer

    def welcomed(self, welcome: Welcome) -> None:
        self._settled.set()

    def lost(self, why: str) -> None:
        if isinstance(self.spoke.error, PeerRefused):
            self._settled.set()
        for request, error in self._requests.fail_all(why):
            self._answers[request].put_nowait(error)

    def received(self, message: Message) -> None:
        if not isinstance(message, _Answer):
            raise ProtocolError(f"{type(message).__name__} is not for clients")
        last = isinstance(message, _LAST)
        known = (
            self._requests.resolve(message.request) if last else self._requests.progress(message.request, self._clock())
        )
        if known:
            self._answers[message.request].put_nowait(message)

    async def _established(self, running: asyncio.Task[None], deadline: Deadline) -> None:
        settled = asyncio.create_task(self._settled.wait())
        try:
            await asyncio.wait({running, settled}, timeout=deadline.remaining(), return_when=asyncio.FIRST_COMPLETED)
        finally:
            settled.cancel()
        if running.done():
            await running
        if (error := self.spoke.error) is not None:
            raise error

    def _open(self, message: Message, request: str, awaited: str, seconds: float) -> None:
        now = self._clock()
        self._requests.open(request, awaited, self._peer, now + seconds, now)
        self._answers[request] = asyncio.Queue()
        try:
            self.spoke.send(message)
        except (ControlError, ProtocolError):
            self._close(request)
            raise

    def _close(self, request: str) -> None:
        if request in self._requests:
            self._requests.resolve(request)
        self._answers.pop(request, None)

    async def _answer(self, request: str) -> _Answer:
        answers = self._answers[request]
        while answers.empty():
            deadline = self._requests.next_deadline()
            left = None if deadline is None else max(0.0, deadline - self._clock())
            try:
                async with asyncio.timeout(left):
                    return _raised(await answers.get())
            except TimeoutError:
                for expired, error in self._requests.expire(self._clock()):
                    self._answers[expired].put_nowait(error)
        return _raised(answers.get_nowait())


def _raised(answer: _Answer | NovaError) -> _Answer:
    if isinstance(answer, NovaError):
        raise answer
    return answer
