"""Nodes joined by MLX's ring, with its headers beside it, write the tokens that they write over tcp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.reference import PROMPT, TOKENS
from tests.support.nova import Outcome, nova
from tests.support.tiny import make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama", eos_token_id=None)


def run(folder: Path, nodes: int, transport: str) -> Outcome:
    outcome = nova(
        "run", "--nodes", str(nodes), "--model", str(folder), "--prompt", PROMPT, "--max-tokens", str(TOKENS),
        "--transport", transport, "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    return outcome


@pytest.mark.parametrize("nodes", [2, 3])
def test_the_ring_gives_the_tokens_that_tcp_gives(tiny: Path, nodes: int) -> None:
    over = {transport: run(tiny, nodes, transport).output for transport in ("tcp", "ring")}
    assert {transport: output["transport"] for transport, output in over.items()} == {"tcp": "tcp", "ring": "ring"}
    assert len(over["ring"]["tokens"]) == TOKENS
    assert over["ring"]["tokens"] == over["tcp"]["tokens"]


def test_the_demo_model_gives_the_same_tokens_over_the_ring(smollm2: Path) -> None:
    over = {transport: run(smollm2, 2, transport).output for transport in ("tcp", "ring")}
    assert over["ring"]["transport"] == "ring"
    assert over["ring"]["tokens"] == over["tcp"]["tokens"]
