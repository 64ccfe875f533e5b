"""What a request's caches are said to cost is what they take, whatever the kind of cache and the length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest

from nova.engine import batches, kv
from nova.engine.emulated import EmulatedStage
from nova.engine.kv import STEP, cost
from nova.model.stage import StageModel, load_stage
from nova.plan.profiles import find_profile
from tests.support.tiny import make_tiny
from tests.unit.engine.ranks import spec

LENGTHS = (1, 7, 8, 9, STEP - 1, STEP, STEP + 1, 700, 1024)
BUDGET = 1 << 30
SPEC = msgspec.structs.replace(spec(2), kv_bytes=BUDGET)
KINDS = {"llama": 0, "gpt_oss": 0, "llama 8 bits": 8, "llama 4 bits": 4}
"""gpt_oss has a window in every other layer."""

Make = Callable[[str], StageModel]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def make(kind: str) -> StageModel:
        folder = make_tiny(tmp_path_factory.mktemp("kv") / "m", kind.split()[0], head_dim=64)
        return load_stage(folder, 0, 4, kv_bits=KINDS[kind])

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_no_length_takes_more_than_it_is_said_to_nor_much_less(stage: Make, kind: str) -> None:
    loaded = stage(kind)
    said = cost(loaded, SPEC)
    for length in LENGTHS:
        caches = loaded.make_cache()
        for width in (length, 1):
            loaded.run(mx.zeros((1, width, 64)), caches)
        takes = batches.nbytes(caches)
        assert takes <= said.fixed + (length + 1) * said.per_token <= takes + 2 * STEP * said.per_token


def test_quantised_caches_cost_less(stage: Make) -> None:
    plain, eight, four = (cost(stage(kind), SPEC).per_token for kind in ("llama", "llama 8 bits", "llama 4 bits"))
    # float32 heads of 64 with a scale and a bias each, against 8 and 4 bits
    assert (eight / plain, four / plain) == (72 / 256, 40 / 256)


def test_only_caches_without_windows_can_be_cut_back(stage: Make) -> None:
    assert [cost(stage(kind), SPEC).trimmable for kind in KINDS] == [True, False, True, True]


def test_a_stage_costs_its_layers_share(stage: Make, tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "m", "llama", head_dim=64)
    one, three = (cost(load_stage(folder, first, last), SPEC) for first, last in ((0, 1), (1, 4)))
    assert (one.fixed * 3, one.per_token * 3) == (three.fixed, three.per_token)


def test_an_emulated_stage_costs_nothing() -> None:
    said = cost(EmulatedStage(find_profile("emulated:seed"), 0, 58), SPEC)
    assert (said.fixed, said.per_token, said.budget, said.trimmable) == (0, 0, BUDGET, True)


def test_without_a_size_the_budget_is_a_share_of_what_is_free(stage: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv, "free_bytes", lambda: 1000)
    assert cost(stage("llama"), msgspec.structs.replace(SPEC, kv_bytes=0, kv_share=0.25)).budget == 250
