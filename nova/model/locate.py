"""Where a model is: a folder, a name under `home/models`, or a hub id.

The order is fixed and offline comes first: what is on this disk is used without asking the network.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nova.errors import ModelError
from nova.model.files import one_line

# The files mlx_lm fetches. A snapshot counts as complete when it has these, so both tools share one hub cache.
PATTERNS = (
    "*.json",
    "model*.safetensors",
    "*.py",
    "tokenizer.model",
    "*.tiktoken",
    "tiktoken.model",
    "*.txt",
    "*.jsonl",
    "*.jinja",
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")

Snapshot = Callable[[str, bool], Path]
"""(hub id, offline) -> folder. Raises ModelError with the reason."""


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form of a hub id, so that it may come from the network."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name


def served_name(name: str) -> str:
    """What clients call a model that the configuration names so: a folder's path is nobody's business."""
    return name if is_hub_id(name) and not Path(name).is_dir() else Path(name).name or name


def hub_snapshot(hub_id: str, offline: bool) -> Path:
    """The folder of a hub model, from the local cache or through the network. Raises ModelError."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(PATTERNS), local_files_only=offline))
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(
            "not in the hub cache" if offline else f"the hub cannot be reached ({one_line(error)})"
        ) from error
    except (errors.HFValidationError, errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        # errors.HTTPError is the base of the HTTP client that this version of the hub library uses.
        raise ModelError(f"{type(error).__name__}: {one_line(error)}") from error


def locate(name: str, home: Path, snapshot: Snapshot = hub_snapshot) -> Path:
    """The folder of model `name`; it has a config.json.

    Tried in this order: a folder of that path, `home/models/NAME`, the hub cache, the hub. `snapshot` is the hub.
    Raises ModelError that says what was tried and what to do.
    """
    if not name:
        raise ModelError(f"{name!r} is not the name of a model on disk")
    if "\0" in name:
        raise ModelError(f"{name!r} is not a path")
    folder = Path(name).expanduser()
    if _is_model(folder):
        return folder.resolve()
    tried = [f"folder {folder} ({_lacks(folder)})"]
    if _NAME.fullmatch(name):
        # A plain name has no separator and no leading dot, so it cannot leave home/models.
        kept = home / "models" / name
        if _is_model(kept):
            return kept.resolve()
        tried.append(f"{kept} ({_lacks(kept)})")
    elif is_hub_id(name):
        for offline in (True, False):
            try:
                found = snapshot(name, offline)
            except ModelError as error:
                tried.append(f"hub {'cache' if offline else 'download'} ({error})")
                continue
            if _is_model(found):
                return found
            tried.append(f"hub {'cache' if offline else 'download'} ({_lacks(found)})")
    raise ModelError(
        f"model {name!r} not found; tried {', '.join(tried)}. "
        f"Give a folder with a config.json, the name of a folder in {home / 'models'}, or a hub id as org/name"
    )


def _is_model(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    except OSError:  # a name longer than the file system allows, or a folder closed to us
        return False


def _lacks(folder: Path) -> str:
    try:
        return "no config.json in it" if folder.is_dir() else "no such folder"
    except OSError as error:
        return error.strerror or str(error)
