"""Many requests at once: each one's text is what it is alone, to the token, whoever joins, leaves or is cancelled."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nova.wire.work import Sampling
from tests.support.tiny import make_tiny
from tests.unit.engine.ranks import Pipeline, tokens
from tests.unit.engine.test_runner import real

VOCABULARY = 90


def request(number: int) -> tuple[list[int], int, Sampling]:
    """Prompt, length and sampling of one of the sixteen: greedy and seeded, short and long, with penalties."""
    chance = random.Random(number)
    prompt = [chance.randrange(VOCABULARY) for _ in range(chance.choice([1, 2, 7, 18, 33]))]
    seeded = Sampling(
        temperature=chance.choice([0.0, 0.7, 1.3]),
        top_p=chance.choice([1.0, 0.9]),
        top_k=chance.choice([0, 12]),
        seed=number,
        frequency_penalty=chance.choice([0.0, 0.6]),
        repetition_penalty=chance.choice([1.0, 1.2]),
    )
    return prompt, chance.randrange(3, 24), seeded if number % 3 else Sampling()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", layers=2)


@pytest.mark.parametrize("split", [(2,), (1, 1)])
def test_sixteen_mixed_requests_give_the_texts_they_give_alone(folder: Path, split: tuple[int, ...]) -> None:
    asked = {number: request(number) for number in range(1, 17)}
    with Pipeline(real(folder, split)).running() as pipeline:
        alone = {}
        for number, (prompt, length, sampling) in asked.items():
            alone[number] = pipeline.text(prompt, number + 100, length, sampling)
        for number, (prompt, length, sampling) in asked.items():
            pipeline.begin(number, prompt, length, sampling=sampling)
            if number % 4 == 0:  # neighbours that come and are taken away
                pipeline.begin(number + 200, prompt, 4000, sampling=sampling)
        first = pipeline.finish(*asked, until=5)
        for number in (204, 208, 212, 216):
            pipeline.cancel(number)
        heard = pipeline.finish(*asked, heard=first)
    assert max(len(step.timing.rows) for steps in heard.values() for step in steps if step.timing) >= 4, "no batches"
    assert {number: tokens(steps, number) for number, steps in heard.items()} == alone
