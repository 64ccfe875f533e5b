"""mlx_lm in one process, to be measured beside Nova: `python -m benches.reference FOLDER PROMPT`.

Each line on standard input asks for that many tokens; the answer is one JSON line with the seconds to the first
token and the seconds between tokens.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil

from nova.node.blas import Blas, environment


class Reference:
    """That process, from outside. `cpus` empty leaves it on all of them."""

    def __init__(self, folder: Path, prompt: str, blas: Blas, threads: int, cpus: list[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benches.reference", str(folder), prompt],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(blas, threads, dict(os.environ)),
        )
        if cpus:
            psutil.Process(self._process.pid).cpu_affinity(cpus)

    def generate(self, tokens: int) -> tuple[float, list[float]]:
        """Seconds to the first token, and between each two after it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(tokens, file=self._process.stdin, flush=True)
        first, between = json.loads(self._process.stdout.readline())
        return first, between

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    import mlx.core as mx
    from mlx_lm import load
    from mlx_lm.generate import generate_step

    model, tokenizer = load(sys.argv[1])[:2]
    prompt = mx.array(tokenizer.encode(sys.argv[2]))
    for line in sys.stdin:
        start = time.perf_counter()
        # generate_step yields the token itself, already computed: nothing is left lazy in these times.
        times = [time.perf_counter() for _ in generate_step(prompt, model, max_tokens=int(line))]
        print(json.dumps([times[0] - start, [b - a for a, b in pairwise(times)]]), flush=True)


if __name__ == "__main__":
    main()
