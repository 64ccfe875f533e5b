"""Requests: admitted or refused with a reason, in their order, and every one ended by Completed or Failed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.config.schema import Deployment as Limits
from nova.coordinator.books import Books
from nova.coordinator.metrics import Metrics
from nova.coordinator.model import Bytes, ServedModel
from nova.coordinator.request import MAX_NEW_TOKENS
from nova.coordinator.serving import Post, Serving
from nova.coordinator.trace import Trace
from nova.wire.messages import Begin, Cancel, Message, Step
from nova.wire.requests import Accepted, Completed, Failed, Generate, Piece
from nova.wire.values import EngineKey
from nova.wire.work import ChunkTiming, Outcome, Sampling
from tests.unit.coordinator.deployments import GRACE_S, Cluster

STOP = 3
MODEL = ServedModel("m", 5, 256, 50, [STOP], Bytes(), Bytes(), [2, 3])
MS = 1_000_000


@dataclass
class Desk:
    """`Serving` over a deployment of two nodes on a fake clock; what it sends is kept."""

    limits: Limits = field(default_factory=lambda: Limits(concurrent=2, queued=2, wait_s=30.0))
    cluster: Cluster = field(default_factory=lambda: Cluster("ab").serving())
    to_client: list[tuple[int, Message]] = field(default_factory=list)
    to_node: list[tuple[str, Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        post = Post(
            lambda session, message: self.to_client.append((session, message)),
            lambda node, message: self.to_node.append((node, message)),
        )
        machine, clock = self.cluster.machine, self.cluster.clock
        self.metrics, self.trace = Metrics(machine.nodes), Trace()
        books = Books(machine, self.metrics, self.trace, lambda node: 0, clock)
        self.serving = Serving(self.limits, machine, post, books, clock)

    model = MODEL

    def generate(self, name: str, **changes: Any) -> Generate:
        return msgspec.structs.replace(Generate(name, "", 8, Sampling(), deadline_s=100.0), **changes)

    def ask(self, name: str, prompt: int = 4, session: int = 1, **changes: Any) -> Message:
        """Submit; returns the first answer."""
        before = len(self.to_client)
        request = self.serving.arrive(session, self.generate(name, **changes))
        if request is not None:
            self.serving.encoded(request, list(range(10, 10 + prompt)), MODEL)
        return self.to_client[before][1]

    def advance(self, seconds: float) -> None:
        self.cluster.clock.advance(seconds)
        self.serving.advance()

    def token(self, stream: int, *tokens: int, finish: str = "", timings: tuple[ChunkTiming, ...] = ()) -> None:
        driver = self.cluster.machine.driver
        for timing in timings[:-1]:
            self.serving.stepped(driver.node, Step(driver.key, [], timing))
        last = timings[-1] if timings else None
        outcomes = [Outcome(stream, list(tokens), finish)] if tokens or finish else []
        self.serving.stepped(driver.node, Step(driver.key, outcomes, last))

    @property
    def begun(self) -> list[int]:
        return [message.stream for _, message in self.to_node if isinstance(message, Begin)]

    @property
    def cancelled(self) -> list[int]:
        return [message.stream for _, message in self.to_node if isinstance(message, Cancel)]

    def failures(self) -> dict[str, str]:
        return {message.request: message.reason for _, message in self.to_client if isinstance(message, Failed)}


@pytest.mark.parametrize(
    ("prompt", "changes", "why"),
    [
        (0, {}, "prompt is empty"),
        (43, {}, r"43 tokens of prompt \+ 8 of text do not fit the model's context of 50"),
        (4, {"max_tokens": -1}, "max_tokens is -1"),
        (4, {"max_tokens": MAX_NEW_TOKENS + 1}, "max_tokens is"),
        (4, {"sampling": Sampling(-0.1)}, "temperature"),
        (4, {"sampling": Sampling(float("nan"))}, "temperature"),
        (4, {"sampling": Sampling(1.0, 0.0)}, "top_p"),
        (4, {"sampling": Sampling(1.0, float("nan"))}, "top_p"),
        (4, {"deadline_s": 0.0}, "deadline is 0 s"),
        (4, {"deadline_s": float("nan")}, "deadline is nan s"),
    ],
)
def test_what_cannot_be_served_is_refused_with_its_reason(prompt: int, changes: dict[str, Any], why: str) -> None:
    desk = Desk()
    answer = desk.ask("r", prompt, **changes)
    assert isinstance(answer, Failed)
    assert re.search(why, answer.reason)
    assert desk.serving.busy == (0, 0)
    assert desk.begun == []


def test_a_prompt_that_just_fits_is_accepted_and_begun_at_the_driver() -> None:
    desk = Desk()
    sampling = Sampling(0.5, 0.9, 7)
    assert desk.ask("r", 42, sampling=sampling) == Accepted("r", 42)
    begin = Begin(EngineKey("main", 1, 1), 1, list(range(10, 52)), 8, [STOP], sampling)
    assert desk.to_node[1:] == [("b", begin)]


@given(st.integers(1, 4), st.integers(0, 4), st.integers(1, 12))
def test_requests_begin_in_their_order_at_most_concurrent_at_once(concurrent: int, queued: int, count: int) -> None:
    desk = Desk(Limits(concurrent=concurrent, queued=queued))
    answers = [desk.ask(f"r{number}") for number in range(count)]
    accepted = min(count, concurrent + queued)
    assert [type(answer) for answer in answers] == [Accepted] * accepted + [Failed] * (count - accepted)
    for done in range(accepted):
        assert desk.serving.busy == (min(concurrent, accepted - done), max(0, accepted - done - concurrent))
        assert desk.begun == list(range(1, min(done + concurrent, accepted) + 1))
        desk.token(done + 1, 65, finish="length")
    completed = [message.request for _, message in desk.to_client if isinstance(message, Completed)]
    assert completed == [f"r{number}" for number in range(accepted)]
    assert desk.serving.busy == (0, 0)


def test_a_full_queue_says_what_to_do() -> None:
    desk = Desk()
    for number in range(4):
        desk.ask(f"r{number}")
    answer = desk.ask("late")
    reason = "2 requests wait already: try again later, or raise deployment.queued"
    assert answer == Failed("late", reason, code="busy", retry_after_s=1.0)


def test_a_request_waits_for_a_deployment_that_forms_and_begins_when_it_serves() -> None:
    desk = Desk(cluster=Cluster("ab"))
    desk.cluster.join_all()
    desk.ask("r")
    desk.advance(29.9)
    assert desk.begun == []
    desk.cluster.all_ready()
    desk.advance(0.0)
    assert desk.begun == [1]
    desk.advance(60.0)  # its waiting time counts no more once it is begun
    assert desk.failures() == {}


def test_a_request_that_is_not_served_in_time_hears_why() -> None:
    desk = Desk(cluster=Cluster("ab"))
    desk.ask("r")
    desk.advance(30.0)
    assert desk.failures() == {"r": "not served within 30 s: waiting for a, b to join"}
    assert desk.serving.busy == (0, 0)


def test_nothing_begins_while_a_failure_is_being_diagnosed() -> None:
    desk = Desk()
    desk.cluster.exit(0, "PeerLost", "rank 1 is gone")
    desk.ask("r")
    assert desk.begun == []
    desk.cluster.tick(GRACE_S)
    assert desk.cluster.machine.state == "failed"


def test_the_deadline_fails_the_request_cancels_its_stream_and_lets_the_next_begin() -> None:
    desk = Desk(Limits(concurrent=1, queued=2))
    desk.ask("short", deadline_s=5.0)
    desk.token(1, 65, 66)
    desk.ask("waits", deadline_s=5.0)
    desk.ask("next")
    desk.advance(4.9)
    assert desk.failures() == {}
    desk.advance(0.1)
    assert desk.failures() == {"short": "the deadline of 5 s passed", "waits": "the deadline of 5 s passed"}
    assert desk.to_client[-2][1] == Failed("short", "the deadline of 5 s passed", tokens_sent=2, code="deadline")
    assert desk.cancelled == [1]
    assert desk.begun == [1, 3]
    assert desk.to_node[2] == ("b", Cancel(EngineKey("main", 1, 1), 1))


def test_an_abandoned_request_is_cancelled_without_an_answer() -> None:
    desk = Desk()
    desk.ask("mine")
    desk.ask("other")
    answered = len(desk.to_client)
    desk.serving.abandon(1, "mine")
    assert desk.cancelled == [1]
    desk.serving.abandon(1, "mine")
    desk.serving.abandon(2, "other")  # another client's request of the same name
    assert desk.cancelled == [1]
    assert len(desk.to_client) == answered


def test_a_client_that_goes_takes_its_requests_along_and_no_others() -> None:
    desk = Desk()
    for number, session in enumerate((1, 2, 1, 2)):
        desk.ask(f"r{number}", session=session)
    desk.serving.abandon(1)
    assert desk.cancelled == [1]
    assert desk.serving.busy == (2, 0)
    assert desk.begun == [1, 2, 4]


def test_when_the_group_is_gone_every_request_hears_it_once() -> None:
    desk = Desk()
    for number in range(3):
        desk.ask(f"r{number}")
    desk.token(1, 65)
    desk.serving.fail_all("node b is lost")
    desk.serving.fail_all("node b is lost")
    failed = [message for _, message in desk.to_client if isinstance(message, Failed)]
    assert failed == [
        Failed("r0", "node b is lost", 1),
        Failed("r1", "node b is lost"),
        Failed("r2", "node b is lost", code="unavailable"),
    ]
    assert desk.serving.busy == (0, 0)


def test_tokens_of_a_foreign_engine_node_or_stream_are_ignored() -> None:
    desk = Desk()
    desk.ask("r")
    key, answered = desk.cluster.machine.driver.key, len(desk.to_client)
    older = msgspec.structs.replace(key, generation=0)
    first = desk.cluster.machine.engines[0].key
    for node, engine, stream in (("b", older, 1), ("a", first, 1), ("a", key, 1), ("b", key, 2)):
        desk.serving.stepped(node, Step(engine, [Outcome(stream, [65], "length")]))
    assert len(desk.to_client) == answered
    assert desk.serving.busy == (1, 0)


def test_tokens_after_the_end_are_ignored() -> None:
    desk = Desk()
    desk.ask("r")
    desk.token(1, 65, finish="length")
    answered = len(desk.to_client)
    desk.token(1, 66, finish="cancelled")
    assert len(desk.to_client) == answered


def test_the_stop_token_is_among_the_tokens_and_not_in_the_text() -> None:
    desk = Desk()
    desk.ask("r")
    desk.token(1, 72)
    desk.token(1, 105, STOP, finish="stop")
    pieces = [message for _, message in desk.to_client if isinstance(message, Piece)]
    assert pieces == [Piece("r", [72], "H"), Piece("r", [105, STOP], "i")]
    done = desk.to_client[-1][1]
    assert isinstance(done, Completed)
    assert (done.finish, done.completion_tokens, done.prompt_tokens) == ("stop", 3, 4)


def test_the_account_of_timings_made_by_hand() -> None:
    desk = Desk()
    desk.ask("r", prompt=9)

    def step(position: int, sent: int, done: int, prefill: bool = False) -> ChunkTiming:
        hops = [((sent + 1) * MS, 0, 7000), ((sent + 10) * MS, 0, 5000)]
        return ChunkTiming([(1, position)], 8 if prefill else 1, prefill, sent * MS, done * MS, hops)

    desk.cluster.clock.advance(0.5)
    desk.token(1, timings=(step(0, 1000, 1050, prefill=True),))
    assert len(desk.to_client) == 1  # prefill gives no text
    desk.cluster.clock.advance(0.25)
    desk.token(1, 65, timings=(step(8, 1050, 1090),))
    desk.cluster.clock.advance(9.0)
    desk.token(1, 66, timings=(step(9, 1090, 1110),))
    desk.token(1, 67, finish="length", timings=(step(10, 1110, 1140),))
    done = desk.to_client[-1][1]
    assert isinstance(done, Completed)
    assert done.ttft_s == pytest.approx(0.75)
    assert done.prefill_tok_s == pytest.approx(9 / 0.090)
    assert done.decode_tok_s == pytest.approx(2 / 0.050)
    assert (done.transport, done.finish, done.completion_tokens) == ("tcp", "length", 3)
    assert [(stage.node, stage.first_layer, stage.layers, stage.ms) for stage in done.stages] == [
        ("a", 0, 2, 7.0), ("b", 2, 3, 5.0),
    ]  # fmt: skip
    assert {row.name: round(row.ms, 6) for row in done.breakdown} == {
        "return to a": 1.0, "stage 0 (a)": 7.0, "hop 0 to 1": 2.0, "stage 1 (b)": 5.0, "rest": 10.0,
    }  # fmt: skip


def test_requests_that_share_chunks_each_account_for_their_own_steps() -> None:
    """Two in one group and one in another, 30 ms each in turn: a step of each takes 60 ms, half of it in the queue."""
    desk = Desk(Limits(concurrent=3))
    for name in "xyz":
        desk.ask(name)

    def step(number: int, *streams: int, finish: str = "") -> None:
        sent = 1000 + 30 * number
        hops = [((sent + 1) * MS, 0, 16_000), ((sent + 19) * MS, 0, 11_000)]
        timing = ChunkTiming([(stream, number) for stream in streams], 1, False, sent * MS, (sent + 30) * MS, hops)
        outcomes = [Outcome(stream, [65], finish) for stream in streams]
        driver = desk.cluster.machine.driver
        desk.serving.stepped(driver.node, Step(driver.key, outcomes, timing))

    for number in range(6):
        step(number, *((1, 2) if number % 2 == 0 else (3,)), finish="length" if number >= 4 else "")
    done = [message for _, message in desk.to_client if isinstance(message, Completed)]
    assert [each.request for each in done] == ["x", "y", "z"]
    for each in done:
        assert each.decode_tok_s == pytest.approx(1 / 0.060)
        assert {row.name: round(row.ms, 6) for row in each.breakdown} == {
            "return to a": 1.0, "stage 0 (a)": 16.0, "hop 0 to 1": 2.0, "stage 1 (b)": 11.0, "rest": 30.0,
        }  # fmt: skip
        assert [stage.ms for stage in each.stages] == [16.0, 11.0]


def test_an_account_without_timings_has_noughts_and_no_rows() -> None:
    desk = Desk()
    desk.ask("r")
    desk.token(1, 65, finish="length")
    done = desk.to_client[-1][1]
    assert isinstance(done, Completed)
    assert (done.prefill_tok_s, done.decode_tok_s, done.breakdown) == (0.0, 0.0, [])


def test_a_request_given_up_before_its_prompt_is_encoded_leaves_nothing() -> None:
    desk = Desk()
    request = desk.serving.arrive(1, Generate("r", "", 8, Sampling(), deadline_s=100.0))
    assert request is not None
    desk.serving.abandon(1)
    desk.serving.encoded(request, [1, 2], MODEL)
    assert desk.serving.busy == (0, 0)
    assert desk.begun == []
    assert desk.to_client == []


def test_what_waits_to_be_encoded_counts_and_has_its_deadline() -> None:
    desk = Desk(Limits(concurrent=1, queued=1))
    asked = [Generate(name, "", 8, Sampling(), deadline_s=5.0) for name in "abc"]
    taken = [desk.serving.arrive(1, each) for each in asked]
    assert [each is not None for each in taken] == [True, True, False]
    desk.advance(5.0)
    assert {name: "deadline" in why or "wait already" in why for name, why in desk.failures().items()} == {
        "a": True, "b": True, "c": True,
    }  # fmt: skip


@pytest.mark.parametrize("token", [-1, 256, 1 << 40])
def test_a_token_that_the_model_does_not_have_fails_the_request_and_not_the_coordinator(token: int) -> None:
    desk = Desk()
    desk.ask("r")
    desk.token(1, token)
    assert "node b" in desk.failures()["r"]
    assert desk.cancelled == [1]


def test_timings_of_another_number_of_stages_are_ignored() -> None:
    desk = Desk()
    desk.ask("r")
    desk.token(1, 20, timings=(ChunkTiming([(1, 0)], 1, False, 0, 5, [(1, 2, 3)]),))
    desk.token(1, 21, finish="length")
    done = desk.to_client[-1][1]
    assert isinstance(done, Completed)
    assert done.breakdown == []


def test_a_fallback_to_another_transport_keeps_what_waits() -> None:
    desk = Desk(cluster=Cluster("ab"))
    desk.cluster.join_all()
    desk.ask("r")
    desk.cluster.exit(0, "FormingFailed")
    desk.cluster.tick(GRACE_S)
    assert desk.cluster.machine.falls_back
    desk.serving.fail_active("tcp did not form")
    assert desk.failures() == {}
    desk.cluster.tick()
    assert desk.cluster.machine.transport == "zmq"
    desk.cluster.all_ready()
    desk.advance(0.0)
    assert desk.begun == [1]
