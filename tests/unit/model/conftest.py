from __future__ import annotations

from pathlib import Path

import pytest

from nova.model.gguf.importer import import_gguf
from tests.support.gguf import demo_gguf


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration model in float32, imported once for all tests."""
    folder = tmp_path_factory.mktemp("models") / "smollm2"
    import_gguf(demo_gguf(), folder, "float32")
    return folder
