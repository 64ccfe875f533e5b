"""Reads a configuration: file, then `--set key=value`, then checks. The result is frozen and complete."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from nova.config.check import problems
from nova.config.options import Option, tables
from nova.config.schema import NodeConfig
from nova.errors import ConfigError

_AT = re.compile(r" - at `\$\.(?P<key>[^`[]*)[^`]*`$")


def load(path: Path | None, overrides: Sequence[str] = ()) -> NodeConfig:
    """The configuration in the TOML file `path` (None: only defaults), changed by `overrides`.

    An override is `key=value` with a dotted key; the value is read as TOML, and as a plain string where it is
    not TOML (`transport.host=10.0.0.2`). A table replaces the whole table. Later overrides win.

    Raises ConfigError: one line with the file (or `--set`), the dotted key and what was expected.
    """
    tree = {} if path is None else _read(path)
    changed: set[str] = set()
    for override in overrides:
        changed.add(_override(tree, override))
    where = _Where("defaults" if path is None else str(path), changed)
    _refuse_unknown(tree, where)
    config = _convert(tree, where)
    for key, problem in problems(config):
        raise where.error(key, problem)
    return config


class _Where:
    """Knows whether a key came from the file or from `--set`."""

    def __init__(self, file: str, changed: set[str]) -> None:
        self.file = file
        self.changed = changed

    def error(self, key: str, problem: str) -> ConfigError:
        set_here = any(_inside(key, one) or _inside(one, key) for one in self.changed)
        return ConfigError(f"{'--set' if set_here else self.file}: {key}: {problem}")


def _inside(key: str, outer: str) -> bool:
    return key == outer or key.startswith((f"{outer}.", f"{outer}["))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


def _override(tree: dict[str, Any], override: str) -> str:
    key, equals, text = override.partition("=")
    key = key.strip()
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override!r}: expected KEY=VALUE with a dotted key, as in engine.load_s=300")
    table = tree
    for depth, part in enumerate(parts[:-1], start=1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set: {key}: {'.'.join(parts[:depth])} is not a table")
    table[parts[-1]] = _value(text)
    return key


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if len(parsed) == 1 else text


def _refuse_unknown(tree: Mapping[str, Any], where: _Where) -> None:
    known: dict[str, Option | None] = {}
    for table in tables():
        known[table.key] = None
        known.update((option.key, option) for option in table.options)

    def walk(prefix: str, level: Mapping[str, Any]) -> None:
        for name, value in level.items():
            key = prefix + name
            if key not in known:
                raise where.error(key, f"is not an option{_did_you_mean(key, [one for one in known if one])}")
            option = known[key]
            if option is not None:
                _refuse_infinite(option, value, where)
            elif isinstance(value, Mapping):
                walk(f"{key}.", value)

    walk("", tree)


def _did_you_mean(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    if not near:  # the right name in the wrong table
        near = [one for one in known if one.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return f"; did you mean {near[0]}?" if near else "; `conf/nova.toml` lists every option"


def _refuse_infinite(option: Option, value: Any, where: _Where) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise where.error(option.key, f"expected {option.expected}, got {value}")


def _convert(tree: Mapping[str, Any], where: _Where) -> NodeConfig:
    try:
        return msgspec.convert(tree, NodeConfig)
    except msgspec.ValidationError as error:
        found = _AT.search(str(error))
        if found is None:
            raise ConfigError(f"{where.file}: {error}") from error
        key = found["key"]
        raise where.error(key, f"expected {_expected()[key]}, got {_lookup(tree, key)!r}") from error


def _expected() -> dict[str, str]:
    words: dict[str, str] = {}
    for table in tables():
        words[table.key] = "a table"
        words.update((option.key, option.expected) for option in table.options)
    return words


def _lookup(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree
