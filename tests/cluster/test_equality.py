"""A split model writes the very tokens that mlx_lm writes with the whole one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.reference import PROMPT, TOKENS, greedy
from tests.support.nova import nova
from tests.support.tiny import make_tiny

DEMO = [("30", "tcp"), ("1,29", "tcp"), ("15,15", "tcp"), ("18,12", "tcp"), ("29,1", "tcp"), ("10,10,10", "tcp")]
DEMO += [("15,15", "zmq"), ("10,10,10", "zmq")]
TINY = [
    ("4", "tcp"),
    ("1,3", "tcp"),
    ("2,2", "tcp"),
    ("3,1", "tcp"),
    ("1,2,1", "tcp"),
    ("2,2", "zmq"),
    ("1,2,1", "zmq"),
]
"""Every split, and every number of nodes over each transport of bytes: bytes do not know where a model was split."""


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """A tiny random model and mlx_lm's tokens for it."""
    folder = make_tiny(tmp_path_factory.mktemp("tiny") / request.param, request.param, eos_token_id=None)
    return folder, greedy(folder)


@pytest.fixture(scope="module")
def demo(smollm2: Path) -> tuple[Path, list[int]]:
    return smollm2, greedy(smollm2)


@pytest.mark.parametrize(("split", "transport"), TINY)
def test_a_tiny_random_model_gives_the_same_tokens_however_it_is_split(
    tiny: tuple[Path, list[int]], split: str, transport: str
) -> None:
    check(tiny, split, transport)


@pytest.mark.parametrize(("split", "transport"), DEMO)
def test_the_demo_model_gives_the_same_tokens_however_it_is_split(
    demo: tuple[Path, list[int]], split: str, transport: str
) -> None:
    check(demo, split, transport)


def check(case: tuple[Path, list[int]], split: str, transport: str) -> None:
    folder, expected = case
    nodes = split.count(",") + 1
    outcome = nova(
        "run", "--nodes", str(nodes), "--model", str(folder), "--prompt", PROMPT, "--max-tokens", str(TOKENS),
        "--split", split, "--transport", transport, "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert len(expected) == TOKENS
    assert outcome.output["tokens"] == expected
    assert outcome.output["transport"] == (transport if nodes > 1 else "none")
    assert [stage["layers"] for stage in outcome.output["stages"]] == [int(part) for part in split.split(",")]
