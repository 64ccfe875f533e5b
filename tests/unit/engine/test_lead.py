"""The last stage's part beside plain text: grammars that cannot be had, vectors, prompts known already."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import msgspec
import numpy as np
import pytest

from nova.engine.grammar import Grammars, Matcher
from nova.engine.lead import Lead
from nova.errors import ModelError
from nova.model.stage import load_stage
from nova.wire.messages import Begin, Budget, Pooled
from nova.wire.tensor import Header
from nova.wire.values import EngineKey
from nova.wire.work import Sampling
from tests.support.tiny import make_tiny
from tests.unit.engine.ranks import WAIT_S, Pipeline, outcomes, spec, tokens
from tests.unit.engine.test_runner import PROMPT, SPLITS, real

LONG = [(7 * index) % 300 for index in range(60)]


class Ends:
    """Of a stage that nothing is sampled from."""

    def head(self, hidden: mx.array) -> mx.array:
        raise AssertionError("nobody asked for a token")

    norm = head


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", layers=2)


def ask(pipeline: Pipeline, stream: int, prompt: list[int], grammar: str = "", pool: str = "") -> None:
    key = pipeline.key(len(pipeline.stages) - 1)
    pipeline.driver.put(Begin(key, stream, prompt, 8, [], Sampling(), grammar, pool))


def keep(pipeline: Pipeline, positions: int) -> None:
    pipeline.driver.put(Budget(pipeline.key(len(pipeline.stages) - 1), positions, True))


def test_a_grammar_that_cannot_be_compiled_fails_its_request_and_no_other(folder: Path) -> None:
    with Pipeline(real(folder, (1, 1))).running() as pipeline:
        ask(pipeline, 1, PROMPT, grammar="{}")
        step = pipeline.next()
        assert "no tokenizer" in step.failed[1]
        assert len(pipeline.text(PROMPT, 2)) == 8


def test_a_request_that_is_cancelled_while_its_grammar_is_compiled_does_not_begin(folder: Path) -> None:
    with Pipeline(real(folder, (1, 1))).running() as pipeline:
        ask(pipeline, 1, PROMPT, grammar="{}")
        pipeline.cancel(1)
        assert outcomes([pipeline.next()], 1)[0].finish == "cancelled"
        assert len(pipeline.text(PROMPT, 2)) == 8  # nothing is said of the first one any more


def test_whatever_a_compiler_raises_ends_its_request_and_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panics(*_: object) -> Matcher:
        raise BaseException("a panic of native code is no Exception")

    monkeypatch.setattr(Grammars, "matcher", panics)
    with Pipeline(real(folder, (1, 1))).running() as pipeline:
        ask(pipeline, 1, PROMPT, grammar="{}")
        assert "a panic" in pipeline.next().failed[1]
        assert len(pipeline.text(PROMPT, 2)) == 8


def test_no_grammar_is_compiled_for_a_request_that_was_cancelled_before_or_after_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, going, compiled = threading.Event(), threading.Event(), list[str]()

    def slow(self: Grammars, grammar: str, stop: object) -> Matcher:
        compiled.append(grammar)
        begun.set()
        assert going.wait(WAIT_S)
        raise ModelError(grammar)

    monkeypatch.setattr(Grammars, "matcher", slow)
    with Pipeline(real(folder, (2,))).running() as pipeline:
        for stream in (1, 2, 3):
            ask(pipeline, stream, PROMPT, grammar=str(stream))
        assert begun.wait(WAIT_S)
        pipeline.cancel(2)
        assert outcomes([pipeline.next()], 2)[0].finish == "cancelled"
        going.set()
        assert [pipeline.next().failed, pipeline.next().failed] == [{1: "1"}, {3: "3"}]
        begun.clear()
        going.clear()
        for stream in (4, 5):
            ask(pipeline, stream, PROMPT, grammar=str(stream))
        assert begun.wait(WAIT_S)
    going.set()
    for thread in [each for each in threading.enumerate() if each.name.startswith("nova-grammar")]:
        thread.join(WAIT_S)
    assert compiled == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompt": []}, "at least one"),
        ({"prompt": [], "pool": "mean"}, "at least one"),
        ({"prompt": [3, -1]}, "tokens from 0"),
        ({"prompt": [2**32]}, "tokens from 0"),
        ({"stream": 0}, "from 1"),
        ({"max_tokens": 0}, "no tokens"),
        ({"pool": "max"}, "no pool 'max'"),
        ({"stream": 1}, "in use"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_others_go_on(folder: Path, change: dict[str, Any], why: str) -> None:
    with Pipeline(real(folder, (2,))).running() as pipeline:
        whole = Begin(pipeline.key(0), 1, PROMPT, 200, [], Sampling())
        pipeline.driver.put(whole)
        pipeline.driver.put(msgspec.structs.replace(msgspec.structs.replace(whole, stream=2), **change))
        while not (step := pipeline.next()).failed:
            pass
        assert why in step.failed[change.get("stream", 2)]
        pipeline.cancel(1)
        assert len(pipeline.text(PROMPT, 3)) == 8


def test_what_a_cancelled_request_has_under_way_is_computed_before_its_memory_is_written_again() -> None:
    """Another request may continue its caches."""
    sent, heard, key = list[Header](), list[object](), EngineKey("main", 1, 1)
    lead = Lead(key, spec(2), Ends(), Grammars(None), lambda header, _: sent.append(header), heard.append, heard.append)
    lead.begin(Begin(key, 1, [5], 8, [], Sampling()))
    lead.cancel(1)
    slot = mx.zeros((8,), mx.uint8)
    mx.eval(slot)
    hidden = slot.view(mx.float32).reshape(1, 1, 2)
    cache = hidden + 1
    assert lead.computed(sent[0], hidden, lambda: [cache]) == {}
    memoryview(cast("bytes", slot))[:] = b"\x50" * 8
    assert cache.tolist() == [[[1, 1]]]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_a_prompt_s_vector_is_the_whole_model_s_however_it_was_cut(
    folder: Path, split: tuple[int, ...], pool: str
) -> None:
    with Pipeline(real(folder, split)).running() as pipeline:  # pieces of four tokens
        ask(pipeline, 1, PROMPT, pool=pool)
        while not isinstance(said := pipeline.said.get(timeout=WAIT_S), Pooled):
            pass
        assert len(pipeline.text(PROMPT, 2)) == 8
    whole = load_stage(folder, 0, 2)
    states = whole.norm(whole.run(whole.embed(mx.array([PROMPT])), whole.make_cache()))[0].astype(mx.float32)
    expected = np.array(states.mean(0) if pool == "mean" else states[-1])
    assert np.frombuffer(said.vector, "<f4") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("split", SPLITS)
def test_a_second_turn_computes_only_what_is_new_and_gives_the_same_text(folder: Path, split: tuple[int, ...]) -> None:
    with Pipeline(real(folder, split)).running() as pipeline:
        turn = [*LONG, *pipeline.text(LONG, 1), 11, 12, 13]
        anew = pipeline.text(turn, 2)
        keep(pipeline, 1000)
        first = pipeline.text(LONG, 3)
        pipeline.begin(4, [*LONG, *first, 11, 12, 13])
        steps = pipeline.finish(4)[4]
    assert tokens(steps, 4) == anew
    known = len(LONG) + len(first) - 1  # the last token of a text was never computed
    assert outcomes(steps, 4)[0].cached == known
    assert min(position for step in steps if step.timing for _, position in step.timing.rows) == known


def test_without_a_budget_nothing_is_kept(folder: Path) -> None:
    with Pipeline(real(folder, (1, 1))).running() as pipeline:
        keep(pipeline, 0)
        pipeline.text(LONG, 1)
        pipeline.begin(2, LONG)
        assert outcomes(pipeline.finish(2)[2], 2)[0].cached == 0
        assert all(1 not in runner._caches for runner in pipeline.runners.values())
