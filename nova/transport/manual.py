"""What a plugin's class says of itself, asked in a process that may be thrown away: `python -m nova.transport.manual`.

Its only argument is the transport's name, its standard output one `Manual` as JSON. It imports the plugin and asks
it nothing, so that a transport which is unavailable here still shows its options.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import typing
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova.errors import PluginRefused
from nova.transport.registry import load_plugin

BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of", "pattern": "as"}
"""The limits of msgspec.Meta, as they are written for people."""


class Option(msgspec.Struct, frozen=True):
    """A key of `[transport.options.NAME]`. `default` is JSON, "" for an option that must be given."""

    name: str
    type: str
    default: str
    help: str


class Manual(msgspec.Struct, frozen=True):
    """Either `refused` says why Nova does not load the plugin, or the rest is filled in."""

    version: str = ""
    api: tuple[int, int] = (0, 0)
    options: list[Option] = []
    refused: str = ""


def manual(name: str) -> Manual:
    """Import the plugin and describe it."""
    try:
        plugin = load_plugin(name)
    except PluginRefused as error:
        return Manual(refused=error.why)
    return Manual(plugin.version, plugin.api, list(options(plugin.Config)))


def options(schema: type[Any]) -> Iterator[Option]:
    """Every option of a plugin's Config."""
    hints = typing.get_type_hints(schema, include_extras=True)
    for field in dataclasses.fields(schema):
        if field.init:
            yield Option(field.name, type_name(hints[field.name]), _default(field), str(field.metadata.get("help", "")))


def type_name(hint: Any) -> str:
    """A type and its limits for people: "float > 0"."""
    if typing.get_origin(hint) is not Annotated:
        return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
    base, *extras = typing.get_args(hint)
    limits = [
        f"{word} {getattr(extra, key)}"
        for extra in extras
        if isinstance(extra, Meta)
        for key, word in BOUNDS.items()
        if getattr(extra, key) is not None
    ]
    return " ".join([type_name(base), *limits])


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _json(field.default)
    return _json(field.default_factory()) if field.default_factory is not dataclasses.MISSING else ""


def _json(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def main(name: str) -> None:
    answers = os.dup(1)  # only ours: what the plugin prints goes elsewhere
    os.dup2(2, 1)
    data = msgspec.json.encode(manual(name))
    while data:
        data = data[os.write(answers, data) :]
    os._exit(0)  # a plugin's threads and exit handlers have no say in it


if __name__ == "__main__":
    main(sys.argv[1])
