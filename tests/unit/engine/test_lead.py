"""The last stage's part beside plain text: grammars that cannot be had, vectors, prompts known already."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from nova.model.stage import load_stage
from nova.wire.messages import Begin, Budget, Pooled
from nova.wire.work import Sampling
from tests.support.tiny import make_tiny
from tests.unit.engine.ranks import WAIT_S, Pipeline, outcomes, tokens
from tests.unit.engine.test_runner import PROMPT, SPLITS, real

LONG = [(7 * index) % 300 for index in range(60)]


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
