"""A file is about 100 lines; over 200 is a question, over 300 needs a reason written here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.project import ROOT, modules, name

QUESTION = 200
LIMIT = 300

REASONS: dict[str, str] = {}
"""A file over LIMIT lines -> why it is better whole."""


def lengths() -> dict[str, int]:
    return {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules()}


def test_a_long_file_has_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = lengths()
    with capsys.disabled():
        for path, lines in sorted(sizes.items(), key=lambda item: -item[1]):
            if lines > QUESTION and path not in REASONS:
                print(f"\n{path}: {lines} lines. One role, or two?", end="")
    too_long = {path: lines for path, lines in sizes.items() if lines > LIMIT and path not in REASONS}
    assert too_long == {}, f"split them, or write the reason into REASONS of {Path(__file__).relative_to(ROOT)}"


def test_no_reason_outlives_its_file() -> None:
    sizes = lengths()
    assert [path for path in REASONS if sizes.get(path, 0) <= LIMIT] == []


def test_the_sources_are_found() -> None:
    assert lengths()["nova/errors.py"] > 50
