"""The official clients against `nova serve` with two nodes: what their users do, over a model that really answers.

The model is SmolLM2 with a chat template of ours that knows tools; its own does not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nova.clock import Deadline
from tests.support.nova import Command, read_until

NAME = "smollm2-tools"
KEY = "a key of this test"
MAX_TOKENS = 24
TIE = 1e-3
"""Of log-probabilities. OpenBLAS moved those of SmolLM2 by 1e-4 at most between one row and eight."""
TEMPLATE = (
    '{%- if tools %}<|im_start|>system\nAnswer with <tool_call>{{ \'{\' }}"name": tool_call.name, "arguments": ...'
    "{{ '}' }}</tool_call>. Tools: {{ tools | tojson }}<|im_end|>\n{% endif -%}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content or '' }}"
    "{%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor -%}"
    "<|im_end|>\n{% endfor -%}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: Any = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": PARAMETERS}}
CAPITAL: Any = [
    {"role": "system", "content": "You answer briefly, and you know the capitals of all countries."},
    {"role": "user", "content": "What is the capital of France?"},
]
COLD = {"temperature": 0}  # Anthropic's client no longer knows it
COUNT = "Count: one, two, three,"


@pytest.fixture(scope="module")
def url(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served") / NAME
    folder.mkdir()
    for file in smollm2.iterdir():
        if file.name != "tokenizer_config.json":
            (folder / file.name).symlink_to(file)
    told = json.loads((smollm2 / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**told, "chat_template": TEMPLATE}))
    asked = ["--model", str(folder), "--nodes", "2", "--listen", "127.0.0.1:0", "--api-key", KEY, "--json"]
    with Command("serve", *asked, "--set", f"deployment.max_tokens={MAX_TOKENS}") as command:
        yield json.loads(read_until(command, "\n}\n", Deadline.after(60.0)))["url"]


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=60.0) as client:
        yield client


@pytest.fixture(scope="module")
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, timeout=60.0) as client:
        yield client


def metric(url: str, name: str) -> float:
    text = httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {KEY}"}).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name)


def eventually(url: str, name: str, value: float, seconds: float = 10.0) -> None:
    deadline = Deadline.after(seconds)
    while (found := metric(url, name)) != value:
        assert not deadline.expired, f"{name} is {found}"
        time.sleep(0.05)


def test_the_model_is_listed_by_its_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME]


def test_a_chat_gives_the_same_text_streamed_and_not_and_its_second_turn_reads_only_what_is_new(
    client: openai.OpenAI,
) -> None:
    whole = client.chat.completions.create(model=NAME, messages=CAPITAL, temperature=0)
    text = whole.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    assert whole.choices[0].finish_reason == "stop"
    stream = client.chat.completions.create(
        model=NAME, messages=CAPITAL, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    usage = chunks[-1].usage
    assert usage is not None
    assert whole.usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (whole.usage.prompt_tokens, whole.usage.completion_tokens)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1
    turn = [*CAPITAL, {"role": "assistant", "content": text}, {"role": "user", "content": "And of Italy?"}]
    second = client.chat.completions.create(model=NAME, messages=turn, temperature=0, max_tokens=4)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    known = whole.usage.prompt_tokens + whole.usage.completion_tokens - 1
    assert second.usage.prompt_tokens_details.cached_tokens == known


def test_seeded_texts_are_the_same_alone_and_among_others(client: openai.OpenAI) -> None:
    def ask(seed: int) -> str:
        return (
            client.completions.create(model=NAME, prompt=COUNT, temperature=0.8, seed=seed, max_tokens=8)
            .choices[0]
            .text
        )

    alone = [ask(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == alone
    assert len(set(alone)) > 1


def test_greedy_texts_among_others_differ_from_those_alone_at_ties_only(client: openai.OpenAI) -> None:
    """OpenBLAS, which these engines use where it is installed, rounds one row otherwise than several."""
    prompts = [f"{'Once upon a time. ' * (number % 4)}{number} plus {number} is" for number in range(6)]

    def ask(prompt: str) -> list[tuple[str, float]]:
        """The tokens, each with how much more likely it was than the next best."""
        done = client.completions.create(model=NAME, prompt=prompt, temperature=0, max_tokens=8, logprobs=2)
        told = done.choices[0].logprobs
        assert told is not None
        assert told.tokens is not None
        assert told.top_logprobs is not None
        gaps = [max(top.values()) - min(top.values()) for top in told.top_logprobs]
        return list(zip(told.tokens, gaps, strict=True))

    alone = [ask(prompt) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(ask, prompts))
    for one, other in zip(alone, together, strict=True):
        for (token, gap), (found, _) in zip(one, other, strict=True):
            if token != found:
                assert gap < TIE, f"{token!r} became {found!r}, and was not a tie: {gap}"
                break


def test_several_choices_read_the_prompt_once(client: openai.OpenAI, url: str) -> None:
    before = metric(url, "nova_cached_prompt_tokens_total")
    prompt = "A prompt that no other test has, long enough to be worth keeping: red, green, blue, white, black, grey."
    done = client.completions.create(model=NAME, prompt=prompt, n=3, temperature=1.0, seed=7, max_tokens=6)
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len({choice.text for choice in done.choices}) > 1
    assert done.usage is not None
    assert metric(url, "nova_cached_prompt_tokens_total") - before >= 2 * (done.usage.prompt_tokens - 1)


def test_log_probabilities_are_those_of_the_tokens(client: openai.OpenAI) -> None:
    choice = client.chat.completions.create(
        model=NAME, messages=CAPITAL, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    ).choices[0]
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert "".join(each.token for each in content) == choice.message.content
    for each in content:
        assert len(each.top_logprobs) == 3
        assert each.top_logprobs[0].token == each.token  # greedy
        assert 0 < sum(math.exp(top.logprob) for top in each.top_logprobs) <= 1.0001


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI) -> None:
    done = client.completions.create(model=NAME, prompt=COUNT, temperature=0, max_tokens=20, stop=[" five", "six"])
    assert done.choices[0].finish_reason == "stop"
    assert "four" in done.choices[0].text
    assert "five" not in done.choices[0].text


def test_json_keeps_to_its_schema(client: openai.OpenAI) -> None:
    form: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": PARAMETERS, "strict": True}}
    for temperature in (0.0, 1.5):
        done = client.chat.completions.create(
            model=NAME, messages=CAPITAL, temperature=temperature, seed=3, response_format=form, max_tokens=60
        )
        trip = json.loads(done.choices[0].message.content or "")
        assert sorted(trip) == ["city", "days"]
        assert 1 <= trip["days"] <= 9


def test_a_tool_is_called_and_its_result_goes_into_the_next_turn(client: openai.OpenAI) -> None:
    done = client.chat.completions.create(
        model=NAME, messages=CAPITAL, temperature=0, tools=[WEATHER], tool_choice="required", max_tokens=80
    )
    (call,) = done.choices[0].message.tool_calls or []
    assert done.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert call.function.name == "weather"
    assert sorted(json.loads(call.function.arguments)) == ["city", "days"]
    turn: Any = [
        *CAPITAL,
        done.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    after = client.chat.completions.create(model=NAME, messages=turn, tools=[WEATHER], max_tokens=4)
    assert after.choices[0].finish_reason in ("stop", "length")


def test_a_client_that_hangs_up_frees_its_place(client: openai.OpenAI, url: str) -> None:
    with client.completions.create(model=NAME, prompt=COUNT, stream=True, max_tokens=4000) as stream:
        next(iter(stream))
        assert metric(url, "nova_requests_running") == 1
    eventually(url, "nova_requests_running", 0)
    eventually(url, "nova_kv_cache_usage_ratio", 0)


def test_a_prompt_that_is_too_long_is_told_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"9000 .* 8192") as refused:
        client.completions.create(model=NAME, prompt=[5] * 9000, max_tokens=1)
    assert refused.value.code == "context_length_exceeded"


def test_a_stranger_is_refused_in_the_shape_of_each_api(url: str) -> None:
    with pytest.raises(openai.AuthenticationError), openai.OpenAI(base_url=f"{url}/v1", api_key="x") as stranger:
        stranger.models.list()
    with pytest.raises(anthropic.AuthenticationError), anthropic.Anthropic(base_url=url, api_key="x") as other:
        other.messages.count_tokens(model=NAME, messages=CAPITAL[1:])


def test_embeddings_tell_like_from_unlike(client: openai.OpenAI) -> None:
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "def main(): return 0"]
    cat, like, code = (each.embedding for each in client.embeddings.create(model=NAME, input=texts).data)
    assert sum(x * x for x in cat) == pytest.approx(1.0, abs=1e-3)
    assert sum(x * y for x, y in zip(cat, like, strict=True)) > sum(x * y for x, y in zip(cat, code, strict=True))


def test_responses_stream_and_go_on_from_one_another(client: openai.OpenAI) -> None:
    first = client.responses.create(model=NAME, input="What is the capital of France?", temperature=0)
    assert "Paris" in first.output_text
    with client.responses.stream(
        model=NAME, input="Again?", temperature=0, previous_response_id=first.id, max_output_tokens=6
    ) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert "response.output_text.delta" in kinds


def test_claude_s_client_streams_counts_and_calls_tools(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=NAME, max_tokens=12, messages=CAPITAL[1:], extra_body=COLD) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert "Paris" in text
    assert final.stop_reason == "end_turn"
    counted = claude.messages.count_tokens(model=NAME, messages=CAPITAL[1:]).input_tokens
    assert counted == final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0)
    tool: Any = {"name": "weather", "description": "d", "input_schema": PARAMETERS}
    called = claude.messages.create(
        model=NAME, max_tokens=80, messages=CAPITAL[1:], tools=[tool], tool_choice={"type": "any"}, extra_body=COLD
    )
    assert called.stop_reason == "tool_use"
    (use,) = [block for block in called.content if block.type == "tool_use"]
    assert sorted(use.input) == ["city", "days"]
