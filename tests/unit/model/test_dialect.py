"""A model's dialect is what mlx_lm infers, and MLX is not loaded for it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from nova.model import dialect
from nova.model.dialect import Dialect, load
from nova.model.tokenizer import Tokenizer

WEATHER = {"city": "Köln", "days": 2}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            },
        },
    }
]
SAMPLES = {
    "function_gemma": "call:weather{city:<escape>Köln<escape>,days:2}",
    "gemma4": 'call:weather{city:<|"|>Köln<|"|>,days:2}',
    "glm47": "weather\n<arg_key>city</arg_key>\n<arg_value>Köln</arg_value>\n"
    "<arg_key>days</arg_key><arg_value>2</arg_value>",
    "json_tools": '\n{"name": "weather", "arguments": {"city": "Köln", "days": 2}}\n',
    "kimi_k2": '<|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>'
    '{"city": "Köln", "days": 2}<|tool_call_end|>',
    "kimi_k3": '<|open|>call tool="weather" index="1"<|sep|><|open|>json type="object"<|sep|>'
    '{"city": "Köln", "days": 2}<|close|>json<|sep|><|close|>call<|sep|>',
    "longcat": "weather\n<longcat_arg_key>city</longcat_arg_key><longcat_arg_value>Köln</longcat_arg_value>"
    "<longcat_arg_key>days</longcat_arg_key><longcat_arg_value>2</longcat_arg_value>",
    "minicpm5": '"weather"><param name="city">Köln</param><param name="days">2</param>',
    "minimax_m2": '<invoke name="weather"><parameter name="city">Köln</parameter>'
    '<parameter name="days">2</parameter></invoke>',
    "mistral": 'weather[ARGS]{"city": "Köln", "days": 2}',
    "muse_spark": '<atem:invoke name="weather"><atem:parameter name="city">Köln</atem:parameter>'
    '<atem:parameter name="days">2</atem:parameter></atem:invoke>',
    "pythonic": '[weather(city="Köln", days=2)]',
    "qwen3_coder": "<function=weather>\n<parameter=city>\nKöln\n</parameter>\n"
    "<parameter=days>\n2\n</parameter>\n</function>",
}  # fmt: skip
SAMPLES["laguna"] = SAMPLES["glm47"]
"""A call as each parser's module describes its format, between the markers."""

PLACE = Path("model")


class Backend(SimpleNamespace):
    """As much of a transformers tokenizer as mlx_lm looks at."""

    def __init__(self, template: str | None = None, vocabulary: Sequence[str] = (), parser: object = None) -> None:
        super().__init__(chat_template=template, init_kwargs={} if parser is None else {"tool_parser_type": parser})
        self._vocabulary = {text: number for number, text in enumerate(vocabulary)}

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [0]


def installed() -> list[str]:
    return [found.name for found in pkgutil.iter_modules(dialect._part("tool_parsers").__path__)]


@pytest.mark.parametrize("parser", installed())
def test_every_installed_parser_reads_its_format(parser: str) -> None:
    found = load(Backend(parser=parser), PLACE)
    assert found.call is not None
    assert found.parse is not None
    [call] = found.parse(SAMPLES[parser], TOOLS)
    assert (call["name"], call["arguments"]) == ("weather", WEATHER)


@pytest.mark.parametrize("parser", installed())
@pytest.mark.parametrize("text", ["", "\n", "{", "5", "[]", "[" * 50_000, "weather<arg_key>", "weather[ARGS]{"])
def test_what_is_no_call_raises_value_error_or_parses_to_one(parser: str, text: str) -> None:
    parse = load(Backend(parser=parser), PLACE).parse
    assert parse is not None
    try:
        calls = parse(text, TOOLS)
    except ValueError:
        return
    assert calls
    assert all({"name", "arguments"} <= call.keys() for call in calls)


@pytest.mark.parametrize(
    ("template", "vocabulary", "call", "thought"),
    [
        (None, [], None, None),
        ("{{ messages }}", ["a"], None, None),
        ("<tool_call>{{ tool_call.name }}", [], ("<tool_call>", "</tool_call>"), None),
        ("[TOOL_CALLS]", [], ("[TOOL_CALLS]", ""), None),
        (None, ["<think>", "</think>"], None, ("<think>", "</think>")),
        (None, ["<|channel>", "<channel|>"], None, ("<|channel>thought", "<channel|>")),
        (None, ["<|tool_call_start|>", "<|tool_call_end|>"], ("<|tool_call_start|>", "<|tool_call_end|>"), None),
    ],
)
def test_template_and_vocabulary_tell_the_dialect(
    template: str | None, vocabulary: list[str], call: tuple[str, str] | None, thought: tuple[str, str] | None
) -> None:
    found = load(Backend(template, vocabulary), PLACE)
    assert (found.call, found.thought) == (call, thought)
    assert (found.parse is None) == (call is None)


def test_the_configuration_has_the_last_word() -> None:
    found = load(Backend("[TOOL_CALLS]", parser="pythonic"), PLACE)
    assert found.call == ("<|tool_call_start|>", "<|tool_call_end|>")


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> LogCapture:
    """The dialect's own: other tests change what is logged in common."""
    capture = LogCapture()
    monkeypatch.setattr(dialect, "log", structlog.wrap_logger(None, [capture], wrapper_class=structlog.BoundLogger))
    return capture


@pytest.mark.parametrize("parser", ["absent", "..server", "__init__", "", 5, "os"])
def test_a_parser_that_mlx_lm_does_not_have_costs_only_the_calls(parser: object, logs: LogCapture) -> None:
    found = load(Backend(vocabulary=["<think>", "</think>"], parser=parser), PLACE)
    assert found == Dialect(("<think>", "</think>"))
    assert [(one["log_level"], one["model"]) for one in logs.entries] == [("warning", "model")]


def test_an_mlx_lm_without_these_functions_is_a_warning(monkeypatch: pytest.MonkeyPatch, logs: LogCapture) -> None:
    monkeypatch.setattr(dialect, "_part", lambda name: SimpleNamespace())
    assert load(Backend("<tool_call>"), PLACE) == Dialect()
    assert [one["log_level"] for one in logs.entries] == ["warning", "warning"]


def test_a_model_folder_has_its_dialect_without_mlx(smollm: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from nova.model.dialect import Dialect, load
from nova.model.tokenizer import Tokenizer
tokenizer = Tokenizer.load(Path({str(smollm)!r}))
assert load(tokenizer._backend, Path("m")) == Dialect(), "SmolLM2 writes plain text"
tokenizer._backend.chat_template = "<arg_key>"
assert load(tokenizer._backend, Path("m")).call == ("<tool_call>", "</tool_call>")
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("mlx", "mlx_lm")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_it_is_what_mlx_lm_itself_infers(smollm: Path) -> None:
    from mlx_lm.tokenizer_utils import load as load_with_mlx

    tokenizer: Any = Tokenizer.load(smollm)
    wrapped = load_with_mlx(smollm)
    ours = load(tokenizer._backend, smollm)
    assert (ours.thought is not None, ours.call is not None) == (wrapped.has_thinking, wrapped.has_tool_calling)
