"""The demo model's folder, imported by tools/setup."""

from __future__ import annotations

from pathlib import Path

from nova import paths
from nova.model.locate import locate

MODEL = "smollm2-135m-instruct"
PROMPT = "Once upon a time, in a small village by the sea,"


def folder() -> Path:
    """Raises ModelError where it is missing."""
    return locate(MODEL, paths.home())
