"""What MLX is shown is there while it reads, for this user only, and gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path

import pytest
from nova_transport_ring.environment import described


def test_mlx_finds_rank_and_hosts_in_a_file_that_only_this_user_can_read() -> None:
    with described(1, [["10.0.0.1:49500"], ["10.0.0.2:49501"]], verbose=True):
        path = Path(os.environ["MLX_HOSTFILE"])
        assert json.loads(path.read_text()) == [["10.0.0.1:49500"], ["10.0.0.2:49501"]]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.environ["MLX_RANK"] == "1"
        assert "MLX_RING_VERBOSE" in os.environ
    assert not path.exists()
    assert not {"MLX_HOSTFILE", "MLX_RANK", "MLX_RING_VERBOSE"} & os.environ.keys()


def test_what_was_set_before_is_hidden_and_then_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_RANK", "7")
    monkeypatch.setenv("MLX_RING_VERBOSE", "1")
    with contextlib.suppress(RuntimeError), described(0, [], verbose=False):
        assert os.environ["MLX_RANK"] == "0"
        assert "MLX_RING_VERBOSE" not in os.environ
        raise RuntimeError
    assert os.environ["MLX_RANK"] == "7"
    assert os.environ["MLX_RING_VERBOSE"] == "1"
    assert "MLX_HOSTFILE" not in os.environ
