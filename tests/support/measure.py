"""What can only be measured in a process of its own, run as `python -m tests.support.measure WHAT FOLDER ...`.

Each function prints one JSON object. `run` calls one from a test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nova.node.blas import choose, environment

PARAGRAPH = (
    "The river begins high in the mountains, where the snow melts in spring. Other streams join it, and by the "
    "time it reaches the valley it is wide enough to carry boats. Plants use the light of the sun to make food "
    "from water and carbon dioxide, and they release oxygen into the air. The Earth moves around the sun once "
    "every year, and the moon moves around the Earth about once every month. People have studied the sky for "
    "thousands of years, and they used the positions of the stars to find their way across the sea."
)


def run(what: str, *arguments: object) -> dict[str, Any]:
    """Measure in a fresh process; with a BLAS where there is one, since MLX's own matrix product is slow on Linux."""
    ours = environment(choose("auto"), 0, dict(os.environ))
    command = [sys.executable, "-m", "tests.support.measure", what, *map(str, arguments)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=ours, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def memory(folder: str, first: str, last: str) -> dict[str, Any]:
    """Bytes that a stage weighs, MLX's peak, and how far the resident set rose above what the imports took."""
    import mlx.core as mx
    import mlx_lm.models.llama
    import mlx_lm.utils  # noqa: F401
    import psutil

    from nova.model.stage import load_stage

    process = psutil.Process()
    mx.eval(mx.ones((256, 256)) @ mx.ones((256, 256)))
    before = process.memory_info().rss
    peak, stop = [before], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    stage = load_stage(Path(folder), int(first), int(last))
    stop.set()
    watcher.join()
    resident = max(peak[0], process.memory_info().rss) - before
    return {"weights": stage.weight_bytes, "mlx_peak": mx.get_peak_memory(), "resident": resident}


def quality(folder: str) -> dict[str, Any]:
    """Perplexity of PARAGRAPH; the same with q and k in the file's row order; greedy text; greedy text in stages."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    from nova.model.stage import load_stage
    from nova.model.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(Path(folder))
    model: Any = load_model(Path(folder))[0]
    ids = mx.array([tokenizer.encode(PARAGRAPH)])
    prompt = tokenizer.encode("The capital of France is")
    whole = [int(token) for token, _ in generate_step(mx.array(prompt), model, max_tokens=6)]

    stages = [load_stage(Path(folder), 0, 18), load_stage(Path(folder), 18, 30)]
    caches = [stage.make_cache() for stage in stages]
    staged: list[int] = []
    for chunk in (prompt[:-1], prompt[-1:]):
        logits = _through(mx, stages, caches, chunk)
    for _ in whole:
        staged.append(_pick(mx, logits))
        logits = _through(mx, stages, caches, staged[-1:])

    right = _perplexity(mx, model, ids)
    for layer in model.model.layers:
        for projection, heads in ((layer.self_attn.q_proj, 9), (layer.self_attn.k_proj, 3)):
            rows = projection.weight
            halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
            projection.weight = halves.swapaxes(1, 2).reshape(rows.shape)
    text = tokenizer.decode(whole)
    return {"right": right, "wrong": _perplexity(mx, model, ids), "text": text, "whole": whole, "staged": staged}


def _pick(mx: Any, logits: Any) -> int:
    token: int = mx.argmax(logits[0, -1]).item()
    return token


def _through(mx: Any, stages: list[Any], caches: list[Any], tokens: list[int]) -> Any:
    h = stages[0].embed(mx.array([tokens]))
    for stage, cache in zip(stages, caches, strict=True):
        h = stage.run(h, cache)
    logits = stages[-1].head(h)
    mx.eval(logits)
    return logits


def _perplexity(mx: Any, model: Any, ids: Any) -> float:
    logits = model(ids[:, :-1]).astype(mx.float32)
    chosen = mx.take_along_axis(logits, ids[:, 1:, None], axis=-1).squeeze(-1)
    return float(mx.exp((mx.logsumexp(logits, axis=-1) - chosen).mean()).item())


def main(what: str, *arguments: str) -> None:
    measures: dict[str, Callable[..., dict[str, Any]]] = {"memory": memory, "quality": quality}
    print(json.dumps(measures[what](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
