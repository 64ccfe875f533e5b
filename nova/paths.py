"""Where a node keeps its things on disk: keys, models and run files, under one home folder.

The only place that reads `NOVA_HOME`. (`nova chat` also takes its key from `NOVA_API_KEY`.)
"""

from __future__ import annotations

import os
from pathlib import Path

from nova.errors import ConfigError

PRIVATE = 0o700


def home(config_home: str = "") -> Path:
    """The home folder, absolute, not created: `config_home`, else $NOVA_HOME, else ~/.cache/nova."""
    chosen = config_home or os.environ.get("NOVA_HOME") or "~/.cache/nova"
    try:
        return Path(chosen).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"home: {chosen!r} names no folder: {error}") from error


def models(home: Path) -> Path:
    """Imported models, one folder each; not created."""
    return home / "models"


def keys(home: Path) -> Path:
    """This node's key pair and the public keys it trusts; not created."""
    return home / "keys"


def run(home: Path) -> Path:
    """Sockets and process ids of running daemons; not created."""
    return home / "run"


def ensure(folder: Path) -> Path:
    """Create `folder` for this user alone, and its missing parents likewise; one that exists is left as it is.

    Raises ConfigError where the folder cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        for one in reversed(missing):
            one.mkdir(mode=PRIVATE, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be created: {error.strerror}; set NOVA_HOME or `home`") from error
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder; set NOVA_HOME or `home`")
    return folder
