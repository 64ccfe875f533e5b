"""Nodes joined by a transport of arrays, with their headers beside it, write the tokens that they write over tcp."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cluster.reference import PROMPT, TOKENS
from tests.support.nova import nova
from tests.support.tiny import make_tiny

NO_MPI = pytest.mark.skipif(sys.platform != "linux", reason="the wheel that brings Open MPI is for Linux")
ARRAYS = ["ring", pytest.param("mpi", marks=NO_MPI)]
NODES = (2, 3)


def tokens(folder: Path, nodes: int, transport: str) -> list[int]:
    outcome = nova(
        "run", "--nodes", str(nodes), "--model", str(folder), "--prompt", PROMPT, "--max-tokens", str(TOKENS),
        "--transport", transport, "--json",
    )  # fmt: skip
    assert outcome.status == 0, outcome.errors
    assert outcome.output["transport"] == transport
    found: list[int] = outcome.output["tokens"]
    assert len(found) == TOKENS
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny") / "llama", "llama", eos_token_id=None)


@pytest.fixture(scope="module")
def over_tcp(tiny: Path) -> dict[int, list[int]]:
    """By number of nodes."""
    return {nodes: tokens(tiny, nodes, "tcp") for nodes in NODES}


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("transport", ARRAYS)
def test_arrays_give_the_tokens_that_bytes_give(
    tiny: Path, over_tcp: dict[int, list[int]], transport: str, nodes: int
) -> None:
    assert tokens(tiny, nodes, transport) == over_tcp[nodes]


def test_the_demo_model_gives_the_same_tokens_over_the_ring(smollm2: Path) -> None:
    assert tokens(smollm2, 2, "ring") == tokens(smollm2, 2, "tcp")
