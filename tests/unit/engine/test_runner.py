"""The chunk loop with stages that really compute: one rank alone, and two ranks over the memory transport."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import mlx.core as mx
import pytest

from nova.engine.emulated import TEXT, EmulatedStage
from nova.engine.grammar import Grammars
from nova.engine.link import Link, Received
from nova.engine.runner import Runner, Stage
from nova.errors import EngineError, PeerLost, TransportFault
from nova.model.stage import load_stage
from nova.plan.profiles import Profile
from nova.wire.messages import Goodbye, StopEngine
from nova.wire.tensor import Header
from nova.wire.work import Sampling
from tests.support.tiny import make_tiny
from tests.unit.engine.ranks import Pipeline, Said, ended, spec, tokens

PROMPT = [5, 80, 33, 61, 7, 120, 9, 44, 3, 99, 210]
LAYERS = 2
SPLITS = [(2,), (1, 1)]
FAST = Profile("fast", (0.1, 0.1), (1, 1), 16, "this test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", layers=LAYERS)


def real(folder: Path, split: tuple[int, ...]) -> list[Callable[[], Stage]]:
    starts = [sum(split[:stage]) for stage in range(len(split))]
    return [
        lambda first=first, count=count: load_stage(folder, first, first + count)  # type: ignore[misc]
        for first, count in zip(starts, split, strict=True)
    ]


def emulated(profile: Profile = FAST) -> list[Callable[[], Stage]]:
    return [lambda: EmulatedStage(profile, 0, 1), lambda: EmulatedStage(profile, 1, 2)]


def texts(folder: Path, split: tuple[int, ...], chunk: int, samplings: list[Sampling]) -> list[list[int]]:
    with Pipeline(real(folder, split), chunk).running() as pipeline:
        return [pipeline.text(PROMPT, number, sampling=each) for number, each in enumerate(samplings, start=1)]


def test_greedy_text_is_the_same_for_one_stage_and_for_two(folder: Path) -> None:
    one, two = (texts(folder, split, 4, [Sampling()] * 2) for split in SPLITS)
    assert one == two
    assert one[0] == one[1]
    assert len(one[0]) == 8


def test_the_same_seed_gives_the_same_text_and_another_seed_another(folder: Path) -> None:
    seeds = [Sampling(1.0, 1.0, seed) for seed in (1, 1, 2, 2**63 - 1)]
    one, two = (texts(folder, split, 4, seeds) for split in SPLITS)
    assert one == two
    assert one[0] == one[1]
    assert len({tuple(text) for text in one}) == 3


def test_every_position_draws_anew(folder: Path) -> None:
    (text,) = texts(folder, (2,), 4, [Sampling(100.0, 1.0, 1)])  # so hot that the draw decides, not the model
    assert len(set(text)) > len(text) // 2


def test_the_seed_s_text_does_not_depend_on_how_the_prompt_was_cut(folder: Path) -> None:
    sampling = [Sampling(1.0, 0.9, 5)]
    assert texts(folder, (2,), 1, sampling) == texts(folder, (2,), 3, sampling) == texts(folder, (2,), 64, sampling)


@pytest.mark.parametrize("split", SPLITS)
def test_two_requests_at_once_do_not_disturb_each_other(folder: Path, split: tuple[int, ...]) -> None:
    other, warm = list(reversed(PROMPT)), Sampling(0.8, 1.0, 3)
    with Pipeline(real(folder, split)).running() as pipeline:
        alone = [pipeline.text(PROMPT, 1), pipeline.text(other, 2, sampling=warm)]
        pipeline.begin(3, PROMPT)
        pipeline.begin(4, other, sampling=warm)
        heard = pipeline.finish(3, 4)
    assert [tokens(heard[3], 3), tokens(heard[4], 4)] == alone


@pytest.mark.parametrize("split", SPLITS)
def test_a_cancel_ends_the_request_and_frees_its_caches(folder: Path, split: tuple[int, ...]) -> None:
    with Pipeline(real(folder, split)).running() as pipeline:
        pipeline.begin(1, PROMPT, max_tokens=4000)
        while not tokens([pipeline.next()]):
            pass
        pipeline.cancel(1)
        assert ended(pipeline.finish(1)[1]) == "cancelled"
        pipeline.cancel(1)  # of a request that has ended: nothing happens
        assert len(pipeline.text(PROMPT, 2)) == 8
        # Chunks keep their order, so the end of the first request went round before the second one's.
        assert all(1 not in runner._caches for runner in pipeline.runners.values())


def test_a_cancel_during_prefill_ends_it_without_a_token(folder: Path) -> None:
    with Pipeline(real(folder, (1, 1)), prefill_chunk=1).running() as pipeline:
        pipeline.begin(1, PROMPT * 20)
        pipeline.cancel(1)
        assert tokens(pipeline.finish(1)[1]) == []


def test_a_stop_token_ends_the_text_and_is_reported(folder: Path) -> None:
    with Pipeline(real(folder, (1, 1))).running() as pipeline:
        text = pipeline.text(PROMPT)
        pipeline.begin(2, PROMPT, stop=[text[3]])
        heard = pipeline.finish(2)[2]
    end = text.index(text[3])
    assert tokens(heard, 2) == text[: end + 1]
    assert ended(heard, 2) == "stop"


def test_a_prompt_of_one_token_needs_no_prefill(folder: Path) -> None:
    for split in SPLITS:
        with Pipeline(real(folder, split)).running() as pipeline:
            pipeline.begin(1, [5], max_tokens=3)
            heard = pipeline.finish(1)[1]
        assert [message.timing.prefill for message in heard if message.timing] == [False] * 3


def test_timings_tell_each_stage_s_part_in_order() -> None:
    with Pipeline(emulated()).running() as pipeline:
        pipeline.begin(1, PROMPT, max_tokens=4)
        timings = [message.timing for message in pipeline.finish(1)[1] if message.timing]
    assert [(timing.rows[0][1], timing.width, timing.prefill) for timing in timings] == [
        (0, 4, True), (4, 4, True), (8, 2, True), (10, 1, False), (11, 1, False), (12, 1, False), (13, 1, False),
    ]  # fmt: skip
    for timing in timings:
        first, second = timing.hops
        assert timing.sent_ns <= first[0]
        assert first[0] + (first[1] + first[2]) * 1000 <= second[0]
        assert second[0] + (second[1] + second[2]) * 1000 <= timing.done_ns
    assert all(before.done_ns <= after.done_ns for before, after in pairwise(timings))


def test_an_emulated_pair_speaks_its_sentence() -> None:
    with Pipeline(emulated()).running() as pipeline:
        assert bytes(pipeline.text(PROMPT, max_tokens=20)) == (TEXT * 2)[len(PROMPT) - 1 :][:20]


def test_a_message_that_is_not_for_engines_ends_the_engine() -> None:
    pipeline = Pipeline(emulated()[:1])
    pipeline.driver.put(Goodbye("what?"))
    with pytest.raises(EngineError, match="Goodbye"):
        pipeline._rank(0)


def test_the_death_of_the_peer_ends_the_loop_with_its_error() -> None:
    pipeline = Pipeline(emulated())
    pipeline._groups[0].abort()
    with pytest.raises(PeerLost, match="rank 0"):
        pipeline._rank(1)


class Swallowing:
    """A link whose chunks never come back."""

    def send(self, header: Header, tensor: mx.array, made_of: Received | None = None) -> None:
        pass


def test_a_chunk_that_never_comes_back_ends_the_engine_and_not_its_next_request_too() -> None:
    pipeline = Pipeline(emulated())
    described, line, link = spec(2), Said(pipeline.driver, pipeline.said), cast("Link", Swallowing())
    last = Runner(pipeline.key(1), described, pipeline.stages[1](), link, line, Grammars(None), round_s=0.05)
    pipeline.begin(1, PROMPT)
    with pytest.raises(TransportFault, match=r"3 chunks are under way and none has come back for 0\.1 s"):
        last.run()


def test_stop_gives_its_reason_back() -> None:
    pipeline = Pipeline(emulated()[:1])
    pipeline.driver.put(StopEngine(pipeline.key(0), "enough"))
    pipeline._rank(0)
    assert pipeline.ends == ["enough"]
