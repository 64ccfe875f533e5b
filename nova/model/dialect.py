"""How a model writes what is not plain text: its reasoning, and its calls of tools.

mlx_lm knows these for the models that it runs, and what it infers is taken over as it is. `import mlx_lm` would load
MLX, which a daemon must not; the few modules that know this need none, so they are loaded from mlx_lm's folder under
a private package name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import structlog

from nova.model.files import one_line

log = structlog.get_logger(__name__)

Call = Mapping[str, Any]
"""`name` and `arguments`, the latter a JSON object or its text."""

Parse = Callable[[str, Sequence[Mapping[str, Any]]], list[Call]]
"""The text between a call's markers and the tools on offer -> the calls in it. Raises ValueError."""

_PACKAGE = "_nova_mlx_lm"
_CHANGED = (AttributeError, ImportError, LookupError, SyntaxError, TypeError, ValueError)
"""What another version's private functions may raise."""

_MALFORMED = (
    *(ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError),
    *(MemoryError, RecursionError),  # from deep nesting
)
"""What its parsers may raise for a text that is no call."""


@dataclass(frozen=True)
class Dialect:
    """`thought` and `call` are the texts before and after each; None for a model that has none. A call without an end
    marker ("") goes on to the end of the text."""

    thought: tuple[str, str] | None = None
    call: tuple[str, str] | None = None
    parse: Parse | None = None


def load(tokenizer: Any, folder: Path) -> Dialect:
    """The dialect that mlx_lm infers from a transformers tokenizer. A part that it cannot tell is left out, with a
    warning that names `folder`. Imports transformers."""
    try:
        thought = _thought(tokenizer)
    except _CHANGED as error:
        log.warning("reasoning is not told from text", model=str(folder), why=one_line(error))
        thought = None
    try:
        parser = tokenizer.init_kwargs.get("tool_parser_type")
        if parser is None:
            parser = _part("tokenizer_utils")._infer_tool_parser(tokenizer)
        return Dialect(thought) if parser is None else _with_calls(thought, parser)
    except _CHANGED as error:
        log.warning("calls of tools are not told from text", model=str(folder), why=one_line(error))
        return Dialect(thought)


def _thought(tokenizer: Any) -> tuple[str, str] | None:
    start, end, *_ = _part("tokenizer_utils")._infer_thinking(tokenizer)
    return (str(start), str(end)) if start and end else None


def _with_calls(thought: tuple[str, str] | None, parser: Any) -> Dialect:
    # The name comes from the model's folder and must not lead anywhere else.
    if not isinstance(parser, str) or not parser.isidentifier():
        raise ValueError(f"tool_parser_type {parser!r} is no name")
    module = _part(f"tool_parsers.{parser}")
    start, end = module.tool_call_start, module.tool_call_end
    if not (isinstance(start, str) and start and isinstance(end, str)):
        raise ValueError(f"the markers of {parser} are no texts")
    return Dialect(thought, (start, end), _total(module.parse_tool_call))


def _total(parse: Callable[[str, Any], Any]) -> Parse:
    """One of mlx_lm's parsers, with one kind of result and one kind of error."""

    def total(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
        try:
            found = parse(text, list(tools))
        except _MALFORMED as error:
            raise ValueError(f"not a call: {one_line(error)}") from error
        calls = found if isinstance(found, list) else [found]
        if not calls or not all(isinstance(call, dict) and {"name", "arguments"} <= call.keys() for call in calls):
            raise ValueError("not a call: no name, or no arguments")
        return calls

    return total


def _part(name: str) -> ModuleType:
    """A module of mlx_lm, loaded without running mlx_lm/__init__.py. Raises what `_CHANGED` names."""
    if _PACKAGE not in sys.modules:
        found = importlib.util.find_spec("mlx_lm")
        if found is None or found.submodule_search_locations is None:
            raise ImportError("mlx_lm is not installed")
        spec = ModuleSpec(_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = list(found.submodule_search_locations)
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{_PACKAGE}.{name}")
