"""How a model writes what is not plain text: its reasoning, and its calls of tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Call = Mapping[str, Any]
"""`name` and `arguments`, the latter a JSON object or its text."""

Parse = Callable[[str, Sequence[Mapping[str, Any]]], list[Call]]
"""The text between a call's markers and the tools on offer -> the calls in it. Raises ValueError."""


@dataclass(frozen=True)
class Dialect:
    """`thought` and `call` are the texts before and after each; None for a model that has none. A call without an end
    marker ("") goes on to the end of the text."""

    thought: tuple[str, str] | None = None
    call: tuple[str, str] | None = None
    parse: Parse | None = None
