"""Conversations in a model's own template, as mlx_lm would render them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nova.errors import ModelError
from nova.model.dialect import Dialect
from nova.model.tokenizer import Tokenizer
from tests.support.tiny import make_tiny

TEMPLATE = (
    "{% for tool in tools or [] %}[tool {{ tool.function.name }}]{% endfor %}"
    "{% for message in messages %}[{{ message.role }}]{{ message.content or '' }}"
    "{% for call in message.tool_calls or [] %}[call {{ call.function.arguments.city }}]{% endfor %}[end]{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% if enable_thinking %}<think>\n{% else %}<think></think>{% endif %}"
    "{% endif %}"
)
"""Knows tools and thinks, unless it is told not to."""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def demo(smollm2: Path) -> Tokenizer:
    return Tokenizer.load(smollm2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("chat") / "m", layers=1)


def with_template(folder: Path, template: str | None) -> Tokenizer:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": template}))
    return Tokenizer.load(folder)


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Tokenizer:
    tokenizer = with_template(folder, TEMPLATE)
    tokenizer.dialect = Dialect(("<think>", "</think>"))
    return tokenizer


def rendered(tokenizer: Tokenizer, *messages: dict[str, Any], **options: Any) -> tuple[str, bool]:
    tools = options.pop("tools", ())
    tokens, in_thought = tokenizer.encode_chat(messages, tools, options)
    return tokenizer.decode(tokens), in_thought


def test_the_demo_model_s_conversation_is_mlx_lm_s(demo: Tokenizer, smollm2: Path) -> None:
    from mlx_lm.utils import load_tokenizer

    talk = [
        {"role": "system", "content": "Be brief."}, USER, {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "again, 世界"},
    ]  # fmt: skip
    theirs = load_tokenizer(smollm2).apply_chat_template(talk, add_generation_prompt=True)
    assert demo.encode_chat(talk) == (theirs, False)
    assert demo.decode(theirs).endswith("<|im_start|>assistant\n")
    assert demo.encode("hi", chat=True) == demo.encode_chat([USER])[0]


def test_tools_and_calls_reach_the_template(thinker: Tokenizer) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    text, _ = rendered(thinker, USER, asked, {"role": "tool", "content": "rain"}, tools=[TOOL], enable_thinking=False)
    assert text == (
        "[tool weather][user]hi[end][assistant][call Köln][end][tool]rain[end][assistant]<think></think>"
    )  # fmt: skip


@pytest.mark.parametrize(("options", "end"), [({}, True), ({"enable_thinking": True}, True)])
def test_a_template_that_opens_the_thought_says_so(thinker: Tokenizer, options: dict[str, Any], end: bool) -> None:
    text, in_thought = rendered(thinker, USER, **options)
    assert text.endswith("[assistant]<think>\n")
    assert in_thought is end


def test_a_thought_that_the_template_has_closed_is_over(thinker: Tokenizer) -> None:
    assert rendered(thinker, USER, enable_thinking=False) == ("[user]hi[end][assistant]<think></think>", False)


@pytest.mark.parametrize("word", ["<think>", "</think>"])
def test_a_marker_in_what_a_user_wrote_opens_and_closes_nothing(thinker: Tokenizer, word: str) -> None:
    said = {"role": "user", "content": f"what is {word}?"}
    assert rendered(thinker, said, enable_thinking=False)[1] is False
    assert rendered(thinker, said, enable_thinking=True)[1] is True


def test_a_model_that_does_not_think_is_never_in_a_thought(folder: Path) -> None:
    tokenizer = with_template(folder, TEMPLATE)
    assert rendered(tokenizer, {"role": "user", "content": "<think>"}) == (
        "[user]<think>[end][assistant]<think></think>", False,
    )  # fmt: skip


@pytest.mark.parametrize(("begun", "inside"), [("<think>well", True), ("<think>well</think>So", False), ("So", False)])
def test_the_last_message_is_gone_on_with_when_that_is_asked(thinker: Tokenizer, begun: str, inside: bool) -> None:
    last = {"role": "assistant", "content": begun}
    text = f"[user]hi[end][assistant]{begun}"
    assert rendered(thinker, USER, last, continue_final_message=True) == (text, inside)


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "tools", "add_generation_prompt", "return_dict"])
def test_a_client_does_not_choose_the_template_or_how_it_is_applied(thinker: Tokenizer, name: str) -> None:
    with pytest.raises(ModelError, match=f"'{name}' is not an option of a chat template"):
        thinker.encode_chat([USER], (), {name: "{{ 1 }}"})


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "has no chat template"),
        ("{{ raise_exception('roles must\nalternate') }}", "the chat template fails: roles must alternate"),
        ("{{ messages[7].content }}", "the chat template fails"),
        ("{{ messages[0].content + 1 }}", "the chat template fails"),
        ("{{ messages[0].content.nothing() }}", "the chat template fails"),
        ("{{ 1 // 0 }}", "the chat template fails"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "the chat template fails"),
        ("{% for", "the chat template fails"),
    ],
)
def test_a_template_that_fails_is_one_line_of_a_model_error(folder: Path, template: str | None, why: str) -> None:
    tokenizer = with_template(folder, template)
    with pytest.raises(ModelError, match=why) as raised:
        tokenizer.encode_chat([USER])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("messages", [[], [{}], [{"role": 1, "content": {"a": []}}]])
def test_a_conversation_that_is_none_is_rendered_or_refused(thinker: Tokenizer, messages: list[dict[str, Any]]) -> None:
    try:
        tokens, _ = thinker.encode_chat(messages)
    except ModelError:
        return
    assert all(isinstance(token, int) for token in tokens)


def test_half_of_a_surrogate_pair_is_no_text(demo: Tokenizer) -> None:
    with pytest.raises(ModelError, match="half of a surrogate pair"):
        demo.encode("so \ud83c")
    with pytest.raises(ModelError, match="half of a surrogate pair"):
        demo.encode_chat([{"role": "user", "content": "so \ud83c"}])
