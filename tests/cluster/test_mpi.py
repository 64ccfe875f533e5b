"""Nodes joined by MLX's MPI backend, with its headers beside it, write the tokens that they write over tcp."""

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
def test_mpi_gives_the_tokens_that_tcp_gives(tiny: Path, nodes: int) -> None:
    over = {transport: run(tiny, nodes, transport).output for transport in ("tcp", "mpi")}
    assert {transport: output["transport"] for transport, output in over.items()} == {"tcp": "tcp", "mpi": "mpi"}
    assert len(over["mpi"]["tokens"]) == TOKENS
    assert over["mpi"]["tokens"] == over["tcp"]["tokens"]
