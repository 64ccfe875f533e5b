"""One case of the kit between nodes: who gets an engine, who is told what, and that it always comes to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.clock import FakeClock
from nova.coordinator.check import GRACE_S, GROUP, MAX_LIMIT_S, MAX_RANKS, MAX_TEXT_CHARS, Checks, Outbox
from nova.wire import phases
from nova.wire.codec import MAX_BODY_BYTES
from nova.wire.messages import EngineExited, EngineState, Gather, Gathered, Message, StartEngine, StopEngine
from nova.wire.requests import CheckQuery, CheckReply, Failed
from nova.wire.values import EngineKey, RankResult, TransportOffer
from tests.unit.coordinator.deployments import TICKET, config, offer, offers

CLIENT = 7
CASE = "T1_a_part_arrives_exactly"
LIMIT_S = 30.0


class Checking:
    """The machine, its clock, and what it answered."""

    def __init__(self, **changes: Any) -> None:
        self.clock = FakeClock(100.0)
        self.answers: list[tuple[int, Message]] = []
        self.config = config("ab")
        if changes:
            transport = msgspec.structs.replace(self.config.transport, **changes)
            self.config = msgspec.structs.replace(self.config, transport=transport)
        self.machine = Checks(
            self.config, lambda: TICKET, lambda client, message: self.answers.append((client, message))
        )
        self.limits = self.config.engine

    def begin(self, nodes: Sequence[str] = "ab", offered: dict[str, Any] | None = None, **changes: Any) -> Outbox:
        query = msgspec.structs.replace(CheckQuery("r", "tcp", CASE, list(nodes), LIMIT_S), **changes)
        known = {node: offers("tcp") for node in "abc"} if offered is None else offered
        return self.machine.begin(CLIENT, query, known, self.clock())

    def exit(self, node: str, rank: int, generation: int = 1, reason: str = "exited with status 0") -> Outbox:
        exited = EngineExited(EngineKey(GROUP, generation, rank), 1, False, reason, "ready")
        return self.machine.from_engine(node, exited, self.clock())

    def report(self, node: str, rank: int, result: str, generation: int = 1, phase: str = phases.READY) -> None:
        state = EngineState(EngineKey(GROUP, generation, rank), phase, detail=result)
        assert self.machine.from_engine(node, state, self.clock()) == []

    def after(self, seconds: float) -> Outbox:
        self.clock.advance(seconds)
        return self.machine.tick(self.clock())

    @property
    def reply(self) -> CheckReply:
        ((client, message),) = self.answers
        assert client == CLIENT
        assert isinstance(message, CheckReply)
        return message

    @property
    def refusal(self) -> str:
        ((_, message),) = self.answers
        assert isinstance(message, Failed)
        return message.reason


def test_each_node_gets_one_engine_that_runs_its_rank_of_the_case() -> None:
    checking = Checking()
    out = checking.begin("ba")
    starts = [(node, message) for node, message in out if isinstance(message, StartEngine)]
    assert [(node, start.engine) for node, start in starts] == [
        ("b", EngineKey(GROUP, 1, 0)), ("a", EngineKey(GROUP, 1, 1)),
    ]  # fmt: skip
    spec = starts[0][1].spec
    assert (spec.check, spec.transport, spec.size, spec.hosts) == (CASE, "tcp", 2, ["10.0.0.1"])
    assert (spec.layers, spec.model, spec.ticket, spec.options) == (0, "", TICKET, {"lanes": 2})
    assert spec.join_s == LIMIT_S, "the daemon keeps the case's limit"


def test_a_node_alone_gets_every_address_that_it_offers() -> None:
    ((node, start),) = Checking().begin("b")
    assert isinstance(start, StartEngine)
    assert (node, start.spec.size, start.spec.hosts) == ("b", 1, ["10.0.0.1"])


def test_the_answer_has_each_rank_s_result_once_all_engines_have_ended() -> None:
    checking = Checking()
    checking.begin()
    checking.report("a", 0, "in it", phase=phases.VERIFY)
    checking.report("b", 1, "good")
    checking.report("a", 0, "bad")
    assert checking.exit("a", 0) == []
    assert checking.answers == []
    assert checking.exit("b", 1, reason="killed by SIGKILL") == []
    assert checking.reply.ranks == [
        RankResult("a", "bad", "exited with status 0"), RankResult("b", "good", "killed by SIGKILL"),
    ]  # fmt: skip


def test_a_rank_that_dies_has_no_result_and_its_end() -> None:
    checking = Checking()
    checking.begin()
    checking.exit("b", 1, reason="killed by SIGKILL")
    checking.report("a", 0, "good")
    checking.exit("a", 0)
    assert checking.reply.ranks[1] == RankResult("b", "", "killed by SIGKILL")


def test_a_gather_ends_for_all_when_the_last_blob_is_in() -> None:
    checking = Checking()
    checking.begin()
    first = Gather(EngineKey(GROUP, 1, 1), 1, b"one")
    assert checking.machine.from_engine("b", first, 0.0) == []
    assert checking.machine.from_engine("a", Gather(EngineKey(GROUP, 1, 0), 1, b"zero"), 0.0) == [
        ("a", Gathered(EngineKey(GROUP, 1, 0), 1, [b"zero", b"one"])),
        ("b", Gathered(EngineKey(GROUP, 1, 1), 1, [b"zero", b"one"])),
    ]


def test_a_case_that_takes_too_long_is_stopped_and_answered_all_the_same() -> None:
    checking = Checking()
    checking.begin()
    checking.report("a", 0, "good")
    checking.exit("a", 0)
    assert checking.after(checking.limits.start_s + LIMIT_S) == []
    stops = checking.after(GRACE_S)
    assert [(node, type(message)) for node, message in stops] == [("b", StopEngine)]
    assert checking.after(1.0) == []
    assert checking.answers == []
    assert checking.after(2 * checking.limits.stop_s + GRACE_S) == []
    assert checking.reply.ranks[1] == RankResult("b", "", "it does not end")


def test_what_ranks_tell_fits_into_one_message() -> None:
    checking = Checking()
    checking.begin()
    for rank, node in enumerate("ab"):
        checking.report(node, rank, "x" * (1 << 20))
        checking.exit(node, rank, reason="y" * (1 << 20))
    assert sum(len(each.result) + len(each.ended) for each in checking.reply.ranks) <= 4 * MAX_TEXT_CHARS
    assert 2 * MAX_TEXT_CHARS * MAX_RANKS * 4 < MAX_BODY_BYTES, "also in characters of four bytes"


def test_a_node_that_leaves_ends_its_rank() -> None:
    checking = Checking()
    checking.begin()
    checking.machine.node_left("b", "silent for 2 s", checking.clock())
    checking.report("a", 0, "good")
    checking.exit("a", 0)
    assert checking.reply.ranks[1] == RankResult("b", "", "b left: silent for 2 s")


def test_a_client_that_leaves_ends_the_case_and_makes_room_for_the_next() -> None:
    checking = Checking()
    checking.begin()
    now = checking.clock()
    assert checking.machine.abandon(CLIENT + 1, now) == []
    assert checking.machine.abandon(CLIENT, now, "another request") == []
    stops = checking.machine.abandon(CLIENT, now, "r")
    assert [node for node, message in stops if isinstance(message, StopEngine)] == ["a", "b"]
    assert checking.machine.abandon(CLIENT, now) == [], "told once"
    assert checking.begin() == []
    assert "is being checked already" in checking.refusal
    checking.exit("a", 0)
    checking.exit("b", 1)
    assert len(checking.begin()) == 2


def test_what_belongs_to_another_group_or_an_earlier_case_changes_nothing() -> None:
    checking = Checking()
    checking.begin()
    for rank, node in enumerate("ab"):
        checking.exit(node, rank)
    checking.answers.clear()
    checking.begin()
    checking.report("a", 0, "old", generation=1)
    checking.report("b", 0, "of another node", generation=2)
    for rank, node in enumerate("ab"):
        checking.exit(node, rank, generation=1)
    assert checking.machine.from_engine("a", Gather(EngineKey("main", 2, 0), 1, b""), 0.0) == []
    assert checking.answers == []
    for rank, node in enumerate("ab"):
        checking.exit(node, rank, generation=2)
    assert [each.result for each in checking.reply.ranks] == ["", ""]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nodes": []}, "1 to 16 different nodes"),
        ({"nodes": ["a", "a"]}, "1 to 16 different nodes"),
        ({"nodes": [f"n{number}" for number in range(MAX_RANKS + 1)]}, "1 to 16 different nodes"),
        ({"nodes": ["a", "z"]}, "z is not here; nodes are a, b, c"),
        ({"limit_s": 0.0}, "at most"),
        ({"limit_s": MAX_LIMIT_S + 1}, "at most"),
        ({"limit_s": float("nan")}, "at most"),
        ({"case": "x" * 1000}, "at most 200 characters"),
        ({"transport": "zmq"}, "zmq: a does not offer it"),
        ({"offered": {"a": offers("tcp"), "b": [offer("tcp", "no port")]}}, "tcp: unavailable on b: no port"),
    ],
)
def test_what_cannot_be_checked_is_answered_with_the_reason(changes: dict[str, Any], why: str) -> None:
    checking = Checking()
    assert checking.begin(**changes) == []
    assert why in checking.refusal
    assert checking.after(1e6) == []
    assert len(checking.answers) == 1


def test_a_transport_needs_no_place_in_the_order_but_may_not_be_denied_or_unsafe() -> None:
    assert len(Checking(order=["zmq"]).begin()) == 2
    assert len(Checking(allow=["zmq"]).begin()) == 2
    denied = Checking(deny=["tcp"])
    denied.begin()
    assert "transport.deny names it" in denied.refusal
    unsafe = Checking(security="encrypted", trusted=[])
    unsafe.begin()
    assert "does not encrypt" in unsafe.refusal


EVENTS = st.lists(st.tuples(st.sampled_from("ELRT"), st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 60)))


@given(st.integers(1, 3), EVENTS)
def test_whatever_happens_a_case_is_answered_once_and_in_time(count: int, events: list[Any]) -> None:
    checking = Checking()
    nodes: list[str] = list("abc"[:count])
    one: list[TransportOffer] = offers("tcp")
    checking.begin(nodes, {node: one for node in "abc"})
    for kind, node, rank, seconds in events:
        match kind:
            case "E":
                checking.exit(node, rank)
            case "L":
                checking.machine.node_left(node, "gone", checking.clock())
            case "R":
                checking.report(node, rank, "result")
            case _:
                checking.after(seconds)
    for _ in range(2):
        checking.after(checking.limits.start_s + LIMIT_S + 2 * checking.limits.stop_s + 2 * GRACE_S)
    assert [each.node for each in checking.reply.ranks] == nodes
