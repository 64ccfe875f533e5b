"""The project's files, as the structure tests look at them."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]

SOURCES = [ROOT / "nova", ROOT / "plugins"]


def modules(*folders: Path) -> list[Path]:
    """Every Python file in `folders` (nova and plugins), without what builds leave behind."""
    found = [path for folder in folders or SOURCES for path in folder.rglob("*.py")]
    return sorted(path for path in found if not {"build", ".venv"} & set(path.relative_to(ROOT).parts))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Every file that belongs to the project; empty where this is not a git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=30).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [path for part in listed.decode().split("\0") if part and (path := ROOT / part).is_file()]
