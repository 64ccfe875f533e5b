"""JSON schemas as grammars for llguidance, checked before a request begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llguidance import LLMatcher, LLParserLimits

from nova.api.errors import invalid

_SEPARATORS = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
"""One space at most: with free whitespace a small model may write spaces until it has no tokens left."""

_MAX_SYMBOLS = 100_000
_MAX_FUEL = 1_000_000
"""llguidance's work on the regular expressions of a schema, about 20 ms."""


def of_format(response_format: Mapping[str, Any], param: str = "response_format") -> str:
    """The grammar of OpenAI's response_format, "" for text. Raises ApiError."""
    kind = response_format.get("type")
    if kind == "text":
        return ""
    if kind == "json_object":
        return of_schema({"type": "object"}, param)
    if kind == "json_schema":
        named = response_format.get("json_schema")
        schema = named.get("schema") if isinstance(named, Mapping) else None
        if not isinstance(schema, Mapping):
            raise invalid("expected an object with a schema", f"{param}.json_schema.schema")
        return of_schema(schema, f"{param}.json_schema.schema")
    raise invalid(f"expected text, json_object or json_schema, got {kind!r}", f"{param}.type")


def of_schema(schema: Mapping[str, Any], param: str, lenient: bool = False) -> str:
    """The grammar of the JSON documents that follow `schema`, `lenient` where it uses what llguidance does not know.

    Raises ApiError with llguidance's message. It may take some milliseconds: call it in a thread.
    """
    try:
        grammar: str = LLMatcher.grammar_from_json_schema(dict(schema), overrides={**_SEPARATORS, "lenient": lenient})
        limits = LLParserLimits(max_grammar_size=_MAX_SYMBOLS, initial_lexer_fuel=_MAX_FUEL)
        wrong = LLMatcher.validate_grammar(grammar, None, limits=limits)
    except ValueError as error:
        raise invalid(f"not a JSON schema that can be followed: {error}", param) from error
    if wrong:
        raise invalid(f"not a JSON schema that can be followed: {' '.join(wrong.split())}", param)
    return grammar
