"""Prints a configuration as commented TOML. `conf/nova.toml` is what this prints for the defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from msgspec import inspect

from nova.config.options import Option, Table, tables

_WIDTH = 100

HEAD = """\
# Every option of a Nova node with its default. A file needs only the keys that differ.
# Use it with `nova-node --config FILE`; change single keys with `--set table.key=value`.
"""


def render() -> str:
    """The whole default configuration, one comment per option, ending in a newline."""
    return "\n".join([HEAD, *(_table(table) for table in tables())])


def _table(table: Table) -> str:
    lines = [f"# {table.help}"] if table.help else []
    if table.key:
        lines.append(f"[{table.key}]")
    flat = [option for option in table.options if not isinstance(option.type, inspect.DictType)]
    for option in flat:
        lines += _option(option)
    for option in table.options:
        if option not in flat:  # as a header and not as `{}`: TOML lets a file extend only the former
            lines += ["", f"# {option.help}", f"[{option.key}]"]
            lines += [f"{toml(str(name))} = {toml(value)}" for name, value in option.default.items()]
    return "\n".join(lines) + "\n"


def _option(option: Option) -> list[str]:
    comment = f"# {option.help}"
    if isinstance(option.type, inspect.LiteralType):
        comment += f" ({' | '.join(str(value) for value in option.type.values)})"
    assignment = f"{option.key.rpartition('.')[2]} = {toml(option.default)}"
    one_line = f"{assignment}  {comment}"
    return [one_line] if len(one_line) <= _WIDTH else [comment, assignment]


def toml(value: object) -> str:
    """One value in TOML: strings, numbers, booleans, lists, and mappings as inline tables."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case Mapping():
            return "{ " + ", ".join(f"{toml(str(k))} = {toml(v)}" for k, v in value.items()) + " }" if value else "{}"
        case Sequence():
            return "[" + ", ".join(toml(item) for item in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def main() -> None:
    """`python -m nova.config.render` writes the text to standard output."""
    print(render(), end="")


if __name__ == "__main__":
    main()
