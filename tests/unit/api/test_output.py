"""Text, reasoning and calls are told apart, wherever the pieces are cut, and nothing is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova.api.output import Part, Splitter, Text, Thought, ToolCall
from nova.model.dialect import Call, Dialect

THINK = ("<think>", "</think>")
CALL = ("<tool_call>", "</tool_call>")
TOOLS: list[Mapping[str, Any]] = [{"type": "function", "function": {"name": "a"}}]


def parse(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
    found = json.loads(text)
    if isinstance(found, list):
        return found
    return [found] if isinstance(found, dict) else [{}]


BOTH = Dialect(THINK, CALL, parse)
ENDLESS = Dialect(None, ("[TOOL_CALLS]", ""), parse)
A = '{"name":"a","arguments":{"x":1}}'
CALL_A = ToolCall("a", '{"x": 1}')


def split(
    text: str | Sequence[str],
    dialect: Dialect = BOTH,
    in_thought: bool = False,
    tools: list[Mapping[str, Any]] = TOOLS,
    cut: bool = False,
) -> list[Part]:
    """The parts of `text`, neighbours of one kind joined."""
    splitter = Splitter(dialect, in_thought, tools)
    parts = [part for piece in text for part in splitter.add(piece)] + splitter.end(cut)
    joined: list[Part] = []
    for part in parts:
        last = joined[-1] if joined else None
        match part, last:
            case (Text(more), Text(so_far)):
                joined[-1] = Text(so_far + more)
            case (Thought(more), Thought(so_far)):
                joined[-1] = Thought(so_far + more)
            case _:
                joined.append(part)
    return joined


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" just text \n", [Text(" just text \n")]),
        ("<think>\nso\n</think>\n\nHello", [Thought("so"), Text("Hello")]),
        ("<think>\n\n</think>\n\nHello", [Text("Hello")]),
        ("<think>never closed", [Thought("never closed")]),
        (f"Let me see.\n<tool_call>\n{A}\n</tool_call>", [Text("Let me see."), CALL_A]),
        (f"<tool_call>{A}</tool_call>\n<tool_call>{A}</tool_call>\n", [CALL_A, CALL_A]),
        (f"<tool_call>[{A},{A}]</tool_call>", [CALL_A, CALL_A]),
        (f"<think>so <tool_call>{A}</tool_call> done", [Thought("so"), CALL_A, Text("done")]),
        (f"<tool_call>{A}", [CALL_A]),
        ("<tool_call>{half", [Text("<tool_call>{half")]),
        ("a <tool_call>{half</tool_call> b", [Text("a <tool_call>{half</tool_call> b")]),
        ("<tool_call>5</tool_call>", [Text("<tool_call>5</tool_call>")]),
        ('<tool_call>{"name":5}</tool_call>', [Text('<tool_call>{"name":5}</tool_call>')]),
        ("a </think> b", [Text("a </think> b")]),
        ("2 <3 <thin", [Text("2 <3 <thin")]),
    ],
)  # fmt: skip
def test_a_text_is_told_apart(text: str, expected: list[Part]) -> None:
    assert split([text]) == expected
    assert split(text) == expected, "character by character"


def test_a_prompt_may_have_opened_the_reasoning() -> None:
    assert split("so</think>yes", in_thought=True) == [Thought("so"), Text("yes")]
    assert split("so</think>yes", Dialect(), in_thought=True) == [Text("so</think>yes")]


def test_without_tools_in_the_request_a_call_is_text() -> None:
    text = f"<think>so</think><tool_call>{A}</tool_call>"
    assert split(text, tools=[]) == [Thought("so"), Text(f"<tool_call>{A}</tool_call>")]


def test_a_marker_that_reasoning_only_mentions_swallows_nothing() -> None:
    text = f"I could use <tool_call> here.</think>Well: <tool_call>{A}</tool_call>."
    expected = [Thought("I could use <tool_call> here."), Text("Well:"), CALL_A, Text(".")]
    assert split(text, in_thought=True) == expected


def test_calls_without_an_end_marker_end_at_the_next_or_with_the_text() -> None:
    assert split(f"ok [TOOL_CALLS]{A}[TOOL_CALLS] {A}", ENDLESS) == [Text("ok"), CALL_A, CALL_A]
    assert split(f"[TOOL_CALLS]bad[TOOL_CALLS]{A}", ENDLESS) == [Text("[TOOL_CALLS]bad"), CALL_A]


@pytest.mark.parametrize("unit", ["<tool_call> ", "<tool_call>x</tool_call> "])
def test_a_text_with_very_many_starts_is_read_in_linear_time_and_whole(unit: str) -> None:
    tries = 0

    def refuse(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
        nonlocal tries
        tries += 1
        raise ValueError("never")

    assert split([unit * 10_000], Dialect(None, CALL, refuse)) == [Text(unit * 10_000)]
    assert tries < 100


def test_a_call_that_a_limit_cut_is_text() -> None:
    assert split(f"<tool_call>{A}", cut=True) == [Text(f"<tool_call>{A}")]
    assert split(f"<tool_call>{A}</tool_call>", cut=True) == [CALL_A], "it was whole"


@pytest.mark.parametrize("arguments", [r'{"x":"\ud800"}', '{"x":NaN}', '"[]"', "null", "5", "[" * 100_000])
def test_arguments_that_no_answer_could_carry_stay_text(arguments: str) -> None:
    text = f'<tool_call>{{"name":"a","arguments":{arguments}}}</tool_call>'
    assert split([text]) == [Text(text)]


def test_arguments_may_come_as_the_text_of_an_object() -> None:
    assert split([r'<tool_call>{"name":"a","arguments":"{\"x\": 1}"}</tool_call>']) == [CALL_A]


def test_text_comes_as_soon_as_it_is_certain() -> None:
    splitter = Splitter(BOTH, False, TOOLS)
    assert splitter.add("Hel") == [Text("Hel")]
    assert splitter.add("lo <t") == [Text("lo")]
    assert splitter.add("able>") == [Text(" <table>")]
    assert splitter.end() == []


BITS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    A,
    "{",
    "<",
    ">",
    "t",
    " ",
    "\n",
    "word",
    "ü",
    "<tool",
    "\u2009",
]
texts = st.lists(st.sampled_from(BITS), max_size=14).map("".join)


@given(text=texts, cuts=st.lists(st.integers(0, 200), max_size=12), in_thought=st.booleans(), tools=st.booleans())
def test_any_cutting_gives_the_same_parts(text: str, cuts: list[int], in_thought: bool, tools: bool) -> None:
    offered = TOOLS if tools else []
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:stop] for start, stop in pairwise(edges)]
    assert split(pieces, in_thought=in_thought, tools=offered) == split([text], in_thought=in_thought, tools=offered)


@given(text=texts, in_thought=st.booleans())
def test_parts_reassemble_to_the_text_but_for_markers_and_white_space(text: str, in_thought: bool) -> None:
    again = "".join(A if isinstance(part, ToolCall) else part.text for part in split([text], in_thought=in_thought))
    markers = re.compile(r"</?think>|</?tool_call>|\s+")
    assert markers.sub("", again) == markers.sub("", text)


@given(text=texts)
def test_without_markers_that_mean_something_the_text_is_untouched(text: str) -> None:
    assert "".join(part.text for part in split(text, Dialect(), tools=[]) if isinstance(part, Text)) == text


@given(text=texts)
def test_calls_that_never_parse_are_given_out_whole(text: str) -> None:
    def refuse(text: str, tools: Sequence[Mapping[str, Any]]) -> list[Call]:
        raise ValueError("never")

    parts = split([text], Dialect(None, CALL, refuse))
    assert "".join(part.text for part in parts if isinstance(part, Text)) == text
