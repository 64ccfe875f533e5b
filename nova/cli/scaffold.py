"""A plugin to start from: the template of `nova/testing/template`, under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from nova.errors import ConfigError
from nova.transport.registry import installed

NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
MAX_NAME = 40
RESERVED = frozenset({"memory", "none"})
"""The reference transport of the tests, and what a group of one engine runs over."""

SUFFIX = ".in"
"""Of every template file, so that no tool takes a template for a module."""


def names(name: str) -> dict[str, str]:
    """What the template's placeholders stand for. Raises ConfigError for a name that is not allowed or is taken."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigError(
            f"{name!r} is no name for a transport: it has lower-case letters and digits, words joined by - or _, "
            f"begins with a letter, and is at most {MAX_NAME} long"
        )
    if name in RESERVED:
        raise ConfigError(f"{name!r} is kept for Nova itself: choose another name")
    words = re.split("[-_]", name)
    same = [other for other in installed() if re.split("[-_]", other) == words]
    if same:
        point = installed()[same[0]][0]
        raise ConfigError(f"there is a transport {same[0]!r} already, {point.value}: choose another name")
    return {
        "name": name,
        "dashed": "-".join(words),
        "package": f"nova_transport_{'_'.join(words)}",
        "title": "".join(word.capitalize() for word in words),
    }


def write(name: str, parent: Path) -> tuple[Path, list[Path]]:
    """A new folder in `parent` with the plugin, and its files. Raises ConfigError; nothing is ever overwritten."""
    values = names(name)
    folder = parent / f"nova-transport-{values['dashed']}"
    if not parent.is_dir():
        raise ConfigError(f"--in: {parent} is not a folder")
    try:
        folder.mkdir()
        return folder, [_write(folder / place, text) for place, text in _filled(values)]
    except FileExistsError as error:
        raise ConfigError(f"{folder} is there already: choose another name, or another folder with --in") from error
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from error


def _filled(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every file's place in the plugin, and its text."""
    for place, file in _files(resources.files("nova") / "testing" / "template", ""):
        text = Template(file.read_text(encoding="utf-8")).substitute(values)
        yield place.replace("package/", f"{values['package']}/").removesuffix(SUFFIX), text


def _files(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield prefix + entry.name, entry


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path
