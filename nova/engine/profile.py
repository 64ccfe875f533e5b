"""What this machine takes for a model's layers, measured in a throw-away process: `python -m nova.engine.profile`.

It is asked a `ProfileRequest` and answers a `ProfileAnswer` (`nova.throwaway`).
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil

from nova.clock import Deadline
from nova.engine.priority import compute_in_long_runs
from nova.errors import ModelError
from nova.plan.fit import Measured, curves
from nova.throwaway import Child
from nova.wire.plans import NodeProfile
from nova.wire.profiling import ProfileAnswer, ProfileRequest

MOST_LAYERS = 16
MOST_BYTES = 2 << 30
"""Of the layers that are run; a quarter of the free memory where that is less."""


def answer(request: ProfileRequest, deadline: Deadline) -> ProfileAnswer:
    """Measure in this process."""
    try:
        measured, how = measure(Path(request.folder), request.kv_bits, deadline)
    except ModelError as error:
        return ProfileAnswer(wrong_model=str(error))
    return ProfileAnswer(NodeProfile(request.name, most_memory(), *curves(measured), f"measured on {how}"))


def measure(folder: Path, kv_bits: int, deadline: Deadline) -> tuple[Measured, str]:
    """What chunks took until about `deadline`, and in words what they ran through. Raises ModelError."""
    from nova.engine.bench import Bench  # imports MLX and mlx_lm, which take a while: pinned and under the alarm
    from nova.engine.memory import free_bytes
    from nova.model.figures import figures
    from nova.model.stage import load_stage

    layers = figures(folder).layers
    count = how_many([layer.weight_bytes for layer in layers], min(MOST_BYTES, free_bytes() // 4))
    first = len(layers) - count
    stage = load_stage(folder, first, len(layers), kv_bits=kv_bits)
    gc.freeze()  # as engines do
    bench = Bench(stage, deadline)
    mean = sum(layer.read_bytes for layer in layers) / len(layers)
    units = [sum(layer.read_bytes for layer in layers[first : first + depth]) / mean for depth in range(count + 1)]
    heads = zip(bench.times("head"), bench.times("headless"), strict=True)
    measured = Measured(
        depths=[(units[depth], seconds) for depth, seconds in bench.times("depth")],
        depth=units[bench.depth],
        rows=bench.times("rows"),
        piece_depth=units[bench.piece_depth],
        pieces=bench.times("piece"),
        head=[(rows, both - alone) for (rows, both), (_, alone) in heads],
    )
    size = sum(layer.weight_bytes for layer in layers[first : first + bench.depth]) >> 20
    run = f"layers {first}-{first + bench.depth - 1} ({size} MiB) behind {bench.context} positions"
    return measured, f"{run}, {bench.rounds} rounds"


def how_many(sizes: Sequence[int], most_bytes: int) -> int:
    """Of the last layers: a power of two, at most MOST_LAYERS that take `most_bytes` together, one anyway."""
    count = 1
    while 2 * count <= min(len(sizes), MOST_LAYERS) and sum(sizes[-2 * count :]) <= most_bytes:
        count *= 2
    return count


def most_memory() -> int:
    """Bytes that MLX may take where nothing else runs. On a Mac: of what the GPU may use without paging."""
    import mlx.core as mx

    total: int = psutil.virtual_memory().total
    return min(total, int(mx.device_info()["max_recommended_working_set_size"])) if mx.metal.is_available() else total


def main() -> None:
    started = time.monotonic() - (time.time() - psutil.Process().create_time())
    child = Child()
    request = msgspec.json.decode(child.asked(), type=ProfileRequest)
    child.guard(request.limit_s, lambda why: ProfileAnswer(raised=why))
    compute_in_long_runs()  # as engines do
    if sys.platform == "linux" and request.cpus:
        os.sched_setaffinity(0, request.cpus)
    child.answer(answer(request, Deadline(started + request.budget_s)))


if __name__ == "__main__":
    main()
