"""Tokens of mlx_lm itself, in a process of its own with the engines' BLAS: `python -m tests.cluster.reference`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nova.node.blas import choose, environment

PROMPT = "Once upon a time, in a small village by the sea,"
TOKENS = 64


def greedy(folder: Path) -> list[int]:
    """What mlx_lm.generate gives for PROMPT: at most TOKENS ids, the stop token included."""
    env = environment(choose("auto"), 0, dict(os.environ))
    command = [sys.executable, "-m", "tests.cluster.reference", str(folder)]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=True)
    tokens: list[int] = json.loads(run.stdout)
    return tokens


def main() -> None:
    from mlx_lm import load, stream_generate

    model, tokenizer = load(sys.argv[1])[:2]
    print(json.dumps([each.token for each in stream_generate(model, tokenizer, PROMPT, max_tokens=TOKENS)]))


if __name__ == "__main__":
    main()
