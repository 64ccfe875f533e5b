"""The demo model's folder, imported by tools/setup, and nodes with one core each."""

from __future__ import annotations

from pathlib import Path

import psutil

from nova import paths
from nova.local.cluster import setting
from nova.model.locate import locate

MODEL = "smollm2-135m-instruct"
PROMPT = "Once upon a time, in a small village by the sea,"


def folder() -> Path:
    """Raises ModelError where it is missing."""
    return locate(MODEL, paths.home())


def cores() -> list[int]:
    """The CPUs that this process may use; empty where the system does not say."""
    here = psutil.Process()
    return list(here.cpu_affinity() or []) if hasattr(here, "cpu_affinity") else []


def pinned(nodes: int) -> tuple[list[str], list[list[str]]]:
    """Settings for all nodes and for each: one thread, and a core of its own where there are so many."""
    found = cores()
    each = [found[index : index + 1] if len(found) >= nodes else [] for index in range(nodes)]
    return [setting("engine.threads", 1)], [[setting("engine.cpus", cpus)] for cpus in each]
