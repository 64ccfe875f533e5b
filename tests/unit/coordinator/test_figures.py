"""A model's figures by a process that is thrown away."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from nova.coordinator import figures as module
from nova.coordinator.figures import read_figures
from nova.errors import ModelError
from nova.model.figures import figures_of
from tests.support.tiny import make_tiny


def test_a_folder_s_figures_are_those_that_are_read_in_this_process(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "tiny", "llama", layers=3)
    assert asyncio.run(read_figures(str(folder), tmp_path)) == figures_of(str(folder), tmp_path)


def test_an_emulated_model_needs_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert len(asyncio.run(read_figures("emulated:m5dense", tmp_path)).layers) == 48
    with pytest.raises(ModelError, match="could not be started"):
        asyncio.run(read_figures("m", tmp_path))


def test_a_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model 'nowhere' not found"):
        asyncio.run(read_figures("nowhere", tmp_path))


def test_a_process_that_takes_too_long_or_dies_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / "odd"
    monkeypatch.setattr(sys, "executable", str(odd))
    odd.write_text("#!/bin/sh\nexit 3\n")
    odd.chmod(0o755)
    with pytest.raises(ModelError, match="m: the process that reads its figures failed"):
        asyncio.run(read_figures("m", tmp_path))
    odd.write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(module, "LIMIT_S", 0.2)
    with pytest.raises(ModelError, match=r"took more than 0\.2 s"):
        asyncio.run(read_figures("m", tmp_path))
