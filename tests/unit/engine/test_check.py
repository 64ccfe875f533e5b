"""An engine that runs a case of the kit: its result is reported, whatever it is, and it never serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from nova.clock import Deadline
from nova.engine.check import MAX_REASON_CHARS, check
from nova.engine.control import ControlLine
from nova.testing.cases import CASES
from nova.testing.report import CaseResult
from nova.wire import phases
from nova.wire.messages import EngineState, StartEngine
from nova.wire.values import EngineKey, EngineSpec

KEY = EngineKey("check", 3, 0)


class Line:
    """The part of a control line that a case uses, for one rank alone."""

    def __init__(self) -> None:
        self.sent: list[EngineState] = []

    def send(self, message: EngineState) -> None:
        self.sent.append(message)

    def all_gather(self, key: EngineKey, round_: int, blob: bytes, deadline: Deadline) -> list[bytes]:
        return [blob]


def start(case: str, transport: str = "tcp", **options: Any) -> StartEngine:
    return StartEngine(
        KEY,
        EngineSpec(
            model="", first_layer=0, last_layer=0, layers=0, size=1, transport=transport, options=options,
            ticket=b"t" * 32, start_s=1.0, open_s=1.0, join_s=30.0, load_s=1.0, transfer_s=1.0, prefill_chunk=1,
            max_tensor_bytes=1024, hosts=["127.0.0.1"], check=case,
        ),
    )  # fmt: skip


def result(case: str, transport: str = "tcp", **options: Any) -> CaseResult:
    line = Line()
    said = check(cast("ControlLine", line), start(case, transport, **options))
    assert [(state.engine, state.phase) for state in line.sent] == [(KEY, phases.VERIFY), (KEY, phases.READY)]
    assert line.sent[0].detail == case
    found = msgspec.json.decode(line.sent[1].detail, type=CaseResult)
    assert said == f"{case} {found.outcome}"
    return found


def test_the_result_of_a_case_is_reported_at_ready() -> None:
    found = result("K2_it_is_made_for_this_api")
    assert (found.transport, found.clause, found.outcome, found.reason) == ("tcp", "K2", "passed", "")


def test_a_plugin_that_cannot_be_loaded_fails_the_case() -> None:
    found = result("K2_it_is_made_for_this_api", "pigeon")
    assert found.outcome == "failed"
    assert "no installed distribution provides it" in found.reason


def test_an_option_that_is_wrong_fails_the_case() -> None:
    assert "unknown option 'pigeons'" in result("K2_it_is_made_for_this_api", pigeons=3).reason


def test_a_reason_is_cut_to_what_may_cross_the_control_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: object) -> None:
        raise ValueError("x" * 100_000)

    name = "K2_it_is_made_for_this_api"
    monkeypatch.setitem(CASES, name, replace(CASES[name], run=breaks))
    found = result(name)
    assert found.outcome == "failed"
    assert len(found.reason) <= MAX_REASON_CHARS
