"""Which stage an engine loads: real layers, or an emulation of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nova.engine.emulated import EmulatedStage
from nova.engine.grammar import Grammars
from nova.engine.runner import Stage
from nova.model.locate import locate
from nova.model.stage import load_stage
from nova.plan.profiles import find_profile, is_emulated
from nova.wire.values import EngineSpec


def load(spec: EngineSpec, home: str, report: Callable[[str], None]) -> Stage:
    """The stage that `spec` describes, its weights in memory. Raises ModelError."""
    if is_emulated(spec.model):
        return EmulatedStage(find_profile(spec.model), spec.first_layer, spec.last_layer)

    def progress(done: int, total: int) -> None:
        report(f"{done >> 20} of {total >> 20} MiB")

    folder = locate(spec.model, Path(home))
    stage = load_stage(folder, spec.first_layer, spec.last_layer, progress, spec.kv_bits)
    stage.warm_up()
    return stage


def grammars(spec: EngineSpec, home: str) -> Grammars:
    """Those of the model's tokenizer, which is read when the first one is asked for."""
    return Grammars(None if is_emulated(spec.model) else locate(spec.model, Path(home)))
