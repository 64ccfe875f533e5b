"""The schema as a list of options: what the loader checks against and the printer prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from nova.config.schema import NodeConfig


@dataclass(frozen=True)
class Option:
    """One key of the configuration. `key` is dotted, as in `engine.load_s`."""

    key: str
    type: inspect.Type
    default: Any
    help: str

    @property
    def table(self) -> str:
        return self.key.rpartition(".")[0]

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        return describe(self.type)


@dataclass(frozen=True)
class Table:
    """A table of the configuration; the key of the outermost one is empty."""

    key: str
    help: str
    options: tuple[Option, ...]


def tables() -> list[Table]:
    """Every table with its options, in the order of the schema."""
    root = inspect.type_info(NodeConfig)
    assert isinstance(root, inspect.StructType)
    return list(_tables("", root))


def _tables(key: str, struct: inspect.StructType) -> Iterator[Table]:
    prefix = f"{key}." if key else ""
    inner = [(prefix + field.encode_name, field.type) for field in struct.fields]
    options = tuple(_options(prefix, struct))
    yield Table(key, " ".join((struct.cls.__doc__ or "").split()), options)
    for name, type_ in inner:
        if isinstance(type_, inspect.StructType):
            yield from _tables(name, type_)


def _options(prefix: str, struct: inspect.StructType) -> Iterator[Option]:
    for field in struct.fields:
        type_, help_ = field.type, ""
        if isinstance(type_, inspect.Metadata):
            help_ = (type_.extra_json_schema or {}).get("description", "")
            type_ = type_.type
        if not isinstance(type_, inspect.StructType):
            made = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            yield Option(prefix + field.encode_name, type_, made, help_)


def describe(type_: inspect.Type) -> str:
    """A type of the schema in words a user can act on."""
    match type_:
        case inspect.Metadata():
            return describe(type_.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            noun = "a whole number" if isinstance(type_, inspect.IntType) else "a finite number"
            return noun + (
                f" >= {type_.ge}" if type_.ge is not None else f" > {type_.gt}" if type_.gt is not None else ""
            )
        case inspect.StrType(pattern=None):
            return "a string"
        case inspect.StrType():
            return "a name of letters, digits, '.', '_' and '-' (at most 63, the first a letter or digit)"
        case inspect.LiteralType():
            return "one of " + ", ".join(repr(value) for value in type_.values)
        case inspect.ListType():
            return f"a list, each item {describe(type_.item_type)}"
        case inspect.DictType(value_type=inspect.DictType()):
            return "a table of tables"
        case _:
            return "a table"
