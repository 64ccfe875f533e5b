"""What commands print: one JSON object that its own schema describes, and tables that show every reason as it is."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from msgspec import inspect
from rich.console import Console

from nova.cli.output import Problem, Status, Text, emit
from nova.cli.schemas import OUTPUTS
from nova.cli.show import account, cluster
from nova.cli.stream import Received, describe
from nova.wire.requests import Piece, StatusReply
from nova.wire.values import EngineKey, EngineStatus, NodeFacts, NodeStatus, Share, StageShare, TransportOffer
from tests.unit.wire.instances import of_type

RUN_KEYS = {"text", "tokens", "ttft_s", "prefill_tok_s", "decode_tok_s", "transport", "stages", "breakdown"}
NASTY = "[/usr/x] [Errno 111] [bold]refused[/bold] [transport.options.tcp]"


def described(name: str) -> dict[str, Any]:
    """The object part of `nova schema NAME`."""
    schema = msgspec.json.schema(OUTPUTS[name])
    found: dict[str, Any] = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    return found


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_what_is_printed_has_the_keys_of_its_schema_and_reads_back(name: str) -> None:
    schema = described(name)

    @settings(max_examples=10)
    @given(of_type(inspect.type_info(OUTPUTS[name])))
    def holds(output: Any) -> None:
        data = msgspec.json.encode(output)
        printed = json.loads(data)
        assert set(schema["required"]) <= set(printed) <= set(schema["properties"])
        assert msgspec.json.decode(data, type=OUTPUTS[name]) == output

    holds()


@pytest.mark.parametrize("name", ["run", "generate"])
def test_a_text_has_all_that_was_promised(name: str) -> None:
    assert set(described(name)["required"]) >= RUN_KEYS


def text(**changes: Any) -> Text:
    made = Text(
        text="hi", tokens=[5], finish="length", prompt_tokens=3, completion_tokens=2, ttft_s=0.5, prefill_tok_s=10.0,
        decode_tok_s=9.0, transport="tcp", stages=[StageShare("a", 0, 58, 70.0), StageShare("b", 58, 8, 36.0)],
        breakdown=[Share("stage 0 (a)", 70.0, 0.7), Share("rest", 30.0, 0.3)],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def status(**changes: Any) -> Status:
    facts = NodeFacts(NASTY, NASTY, "arm64", NASTY, 8, 1 << 30, "boot", "3.12", "0.1", "0.32")
    made = Status(
        coordinator="a", nova="0.1", model=NASTY, state="failed", transport="tcp", generation=2,
        rejected={"zmq": NASTY},
        nodes=[
            NodeStatus("a", "up", 0.1, 0.2, 1 << 30, facts, [TransportOffer("zmq", unavailable=NASTY)]),
            NodeStatus("b", "missing", 0.0, 0.0, 0, None, []),
        ],
        engines=[EngineStatus(EngineKey("main", 2, 0), "a", "load", 7, 0, 58, 1 << 20, 1 << 21, NASTY, [NASTY])],
        counters={}, reasons=[NASTY],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def shown(renderable: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=2000).print(renderable)
    return out.getvalue()


def test_emit_prints_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    emit(text())
    assert json.loads(capsys.readouterr().out)["stages"][1] == {
        "node": "b", "first_layer": 58, "layers": 8, "ms": 36.0,
    }  # fmt: skip


def test_the_table_adds_up_to_the_token() -> None:
    table = shown(account(text()))
    assert "stage 0 (a)" in table
    assert "70.0%" in table
    assert "100.00" in table
    assert "a layers 0-57, b layers 58-65" in table


def test_without_a_breakdown_there_are_figures_and_no_table() -> None:
    table = shown(account(text(breakdown=[])))
    assert "Where" not in table
    assert "decode" in table


def test_reasons_are_shown_as_they_are_whatever_brackets_they_hold() -> None:
    table = shown(cluster(status()))
    # model, machine (twice), detail, rejection, reason
    assert table.count(NASTY) == 6
    assert "missing" in table


def test_why_a_transport_is_unavailable_is_said_once_for_all_nodes() -> None:
    offers = [TransportOffer("tcp"), TransportOffer("jaccl", unavailable="no cable")]
    nodes = [NodeStatus(name, "up", 0.1, 0.2, 1 << 30, None, offers) for name in ("a", "b")]
    table = shown(cluster(status(nodes=nodes, rejected={})))
    assert table.count("no cable") == 1
    assert "jaccl is unavailable on a, b: no cable" in table
    rejected = {"jaccl": "unavailable on a: no cable"}
    assert shown(cluster(status(nodes=nodes, rejected=rejected))).count("no cable") == 1


def test_a_deployment_that_serves_has_no_reasons_to_show() -> None:
    assert "gone" not in shown(cluster(status(state="serving", reasons=["gone"])))


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("serving", "reading the prompt"),
        ("forming", f"forming over tcp: a load {NASTY}"),
        ("waiting", "waiting for b"),
    ],
)
def test_the_spinner_says_what_is_awaited(state: str, line: str) -> None:
    fields = {name: getattr(status(state=state), name) for name in Status.__struct_fields__}
    assert describe(StatusReply(request="r", **fields)) == line


def test_a_text_that_was_cut_off_keeps_what_had_come() -> None:
    received = Received(prompt_tokens=3)
    for piece in (Piece("r", [1, 2], "a"), Piece("r", [3], "b")):
        received.add(piece)
    cut = received.cut_off("node b died")
    assert isinstance(cut, Text)
    assert (cut.text, cut.tokens, cut.error, cut.completion_tokens) == ("ab", [1, 2, 3], "node b died", 3)


def test_where_nothing_had_come_there_is_only_the_problem() -> None:
    assert Received(prompt_tokens=3).cut_off("node b died") == Problem(error="node b died")


def test_requests_and_their_memory_are_shown_where_they_are_counted() -> None:
    counters = {"requests_running": 3, "requests_waiting": 2, "kv_percent:a": 45, "kv_percent:b": 7}
    shows = shown(cluster(status(counters=counters)))
    assert "requests: 3 running, 2 waiting" in shows
    assert "KV caches: a 45 %, b 7 %" in shows
    assert "requests" not in shown(cluster(status(counters={"sent": 9})))
