"""What a request may ask for: its length, its end, log-probabilities, a vector; and what is no request at all."""

from __future__ import annotations

import re
from typing import Any

import pytest

from nova.config.schema import Deployment as Limits
from nova.coordinator.request import MAX_GRAMMAR, MAX_LOGPROBS, MAX_STOP, MAX_STOPS
from nova.wire.messages import Begin, Budget, Message, Pooled, Step
from nova.wire.requests import Accepted, Completed, Embedded, Failed, Piece
from nova.wire.values import KvCost
from nova.wire.work import ChunkTiming, Outcome, Sampling, TokenLogprob
from tests.unit.coordinator.deployments import Cluster
from tests.unit.coordinator.test_serving import STOP, Desk

CONTEXT = 50


def last(desk: Desk) -> Message:
    return desk.to_client[-1][1]


def pieces(desk: Desk) -> list[tuple[list[int], str]]:
    return [(message.tokens, message.text) for _, message in desk.to_client if isinstance(message, Piece)]


def begin(desk: Desk) -> Begin:
    return [message for _, message in desk.to_node if isinstance(message, Begin)][-1]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"request": ""}, "a request's name has 1 to 200 characters"),
        ({"request": "r" * 201}, "a request's name has 1 to 200 characters"),
        ({"sampling": Sampling(float("inf"))}, "temperature is inf, expected 0 to 100"),
        ({"sampling": Sampling(top_k=-1)}, "top_k is -1"),
        ({"sampling": Sampling(min_p=1.1)}, "min_p is 1.1, expected 0 to 1"),
        ({"sampling": Sampling(seed=1 << 64)}, "seed is"),
        ({"sampling": Sampling(presence_penalty=2.1)}, "presence_penalty is 2.1, expected -2 to 2"),
        ({"sampling": Sampling(frequency_penalty=float("nan"))}, "frequency_penalty is nan"),
        ({"sampling": Sampling(repetition_penalty=0.0)}, "repetition_penalty is 0"),
        ({"sampling": Sampling(repetition_context=-1)}, "repetition_context is -1"),
        ({"sampling": Sampling(logprobs=MAX_LOGPROBS + 1)}, "logprobs is 21, expected -1 to 20"),
        ({"sampling": Sampling(logit_bias={1: float("nan")})}, "a logit_bias is -100 to 100"),
        ({"sampling": Sampling(logit_bias={256: 1.0})}, "logit_bias has token 256, and the model has 256"),
        ({"sampling": Sampling(logit_bias={-1: 1.0})}, "logit_bias has token -1"),
        ({"sampling": Sampling(logit_bias=dict.fromkeys(range(5000), 1.0))}, "logit_bias names 5000 tokens"),
        ({"stop": [""]}, "stop takes up to 16 strings of 1 to 1024 characters"),
        ({"stop": ["x"] * (MAX_STOPS + 1)}, "stop takes up to"),
        ({"stop": ["x" * (MAX_STOP + 1)]}, "stop takes up to"),
        ({"stop_tokens": [256]}, "stop_tokens has token 256"),
        ({"stop_tokens": [1] * 257}, "stop_tokens takes up to 256 tokens"),
        ({"grammar": "x" * (MAX_GRAMMAR + 1)}, "the grammar is longer than"),
        ({"stop": ["\ud83c"]}, "without half of a surrogate pair"),
        ({"grammar": "\ud83c"}, "without half of a surrogate pair"),
        ({"deadline_s": float("inf")}, "the deadline is inf s, expected more than 0, at most 604800"),
        ({"pool": "median"}, "pool is 'median', expected mean or last"),
    ],
)
def test_what_is_no_request_is_refused_before_anything_is_begun(changes: dict[str, Any], why: str) -> None:
    desk = Desk()
    answer = desk.ask("r", **changes)
    assert isinstance(answer, Failed)
    assert re.search(why, answer.reason)
    assert answer.code == "invalid"
    assert (desk.serving.busy, desk.begun) == ((0, 0), [])


@pytest.mark.parametrize("sampling", [Sampling(seed=(1 << 64) - 1), Sampling(seed=-(1 << 63)), Sampling(logprobs=20)])
def test_what_lies_on_the_limit_is_taken(sampling: Sampling) -> None:
    desk = Desk()
    assert desk.ask("r", sampling=sampling) == Accepted("r", 4)


@pytest.mark.parametrize("prompt", [[-1], [10, 256], [1 << 40]])
def test_a_prompt_of_tokens_that_the_model_does_not_have_is_refused(prompt: list[int]) -> None:
    desk = Desk()
    request = desk.serving.arrive(1, desk.generate("r"))
    assert request is not None
    desk.serving.encoded(request, prompt, desk.model)
    assert desk.failures()["r"] == f"the prompt has token {prompt[-1]}, and the model has 256"


@pytest.mark.parametrize(("prompt", "default", "given"), [(4, 8, 8), (44, 8, 6), (49, 8, 1), (4, 4096, 46)])
def test_a_request_that_does_not_say_gets_the_default_or_what_the_context_leaves(
    prompt: int, default: int, given: int
) -> None:
    desk = Desk(Limits(max_tokens=default))
    assert desk.ask("r", prompt, max_tokens=0) == Accepted("r", prompt)
    assert begin(desk).max_tokens == given


@pytest.mark.parametrize(
    ("prompt", "changes", "numbers"),
    [
        (50, {"max_tokens": 0}, r"50 tokens of prompt \+ 1 of text .* context of 50"),
        (43, {"max_tokens": 8}, r"43 tokens of prompt \+ 8 of text .* context of 50"),
        (51, {"pool": "mean"}, r"51 tokens of prompt do not fit the model's context of 50"),
    ],
)
def test_what_is_too_long_for_the_context_hears_both_numbers(
    prompt: int, changes: dict[str, Any], numbers: str
) -> None:
    desk = Desk()
    answer = desk.ask("r", prompt, **changes)
    assert isinstance(answer, Failed)
    assert answer.code == "too_long"
    assert re.search(numbers, answer.reason)


def test_a_stop_string_ends_the_request_and_is_not_in_the_text() -> None:
    desk = Desk()
    desk.ask("r", stop=["\n\n", "END"])
    desk.token(1, *b"ok E")
    desk.token(1, *b"ND or more")
    assert pieces(desk) == [(list(b"ok "), "ok "), (list(b"END"), "")]
    done = last(desk)
    assert isinstance(done, Completed)
    assert (done.finish, done.stopped_by, done.completion_tokens) == ("stop", "END", 6)
    assert desk.cancelled == [1], "the driver would go on"
    assert desk.serving.busy == (0, 0)
    desk.token(1, *b"late")
    assert last(desk) is done


def test_a_stop_string_in_the_last_tokens_needs_no_cancel() -> None:
    desk = Desk()
    desk.ask("r", stop=["b"])
    desk.token(1, *b"ab", finish="length")
    done = last(desk)
    assert isinstance(done, Completed)
    assert (done.finish, done.stopped_by, desk.cancelled) == ("stop", "b", [])


def test_a_start_of_a_stop_string_comes_when_the_request_ends_otherwise() -> None:
    desk = Desk()
    desk.ask("r", stop=["xyz"])
    desk.token(1, *b"ax")
    desk.token(1, *b"y", finish="length")
    assert pieces(desk) == [([97], "a"), (list(b"xy"), "xy")]
    done = last(desk)
    assert isinstance(done, Completed)
    assert (done.finish, done.stopped_by) == ("length", "")


@pytest.mark.parametrize(
    ("changes", "stops"),
    [({}, [STOP]), ({"stop_tokens": [9, 7]}, [STOP, 7, 9]), ({"stop_tokens": [9], "ignore_eos": True}, [9])],
)
def test_tokens_that_end_a_text_are_the_request_s_and_the_model_s(changes: dict[str, Any], stops: list[int]) -> None:
    desk = Desk()
    desk.ask("r", **changes)
    assert begin(desk).stop_tokens == stops


def test_grammar_and_sampling_reach_the_driver_as_they_are() -> None:
    desk = Desk()
    sampling = Sampling(0.5, 0.9, 7, 40, 0.1, 1.1, 64, 0.5, -0.5, {5: -100.0}, 3)
    desk.ask("r", sampling=sampling, grammar='{"grammars": []}')
    assert (begin(desk).sampling, begin(desk).grammar, begin(desk).pool) == (sampling, '{"grammars": []}', "")


def test_log_probabilities_stay_with_their_tokens() -> None:
    desk = Desk()
    desk.ask("r", sampling=Sampling(logprobs=1), stop=["bc"])
    given = [TokenLogprob(token, -0.5, [(token, -0.5)]) for token in b"abd"]
    driver = desk.cluster.machine.driver
    for token, logprob in zip(b"abd", given, strict=True):
        outcome = Outcome(1, [token], "", [logprob])
        desk.serving.stepped(driver.node, Step(driver.key, [outcome]))
    sent = [message for _, message in desk.to_client if isinstance(message, Piece)]
    assert [(piece.text, piece.logprobs) for piece in sent] == [("a", given[:1]), ("bd", given[1:])]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (Outcome(1, [65]), "sent 0 log-probabilities of 1 tokens"),
        (Outcome(1, [65], "tired", [TokenLogprob(65, -1.0)]), "sent the end 'tired'"),
        (Outcome(1, [65], "", [TokenLogprob(65, -1.0)], 5), "sent 5 cached tokens of a prompt of 4"),
    ],
)
def test_what_no_sound_driver_sends_fails_the_request_and_names_the_node(outcome: Outcome, why: str) -> None:
    desk = Desk()
    desk.ask("r", sampling=Sampling(logprobs=0))
    driver = desk.cluster.machine.driver
    desk.serving.stepped(driver.node, Step(driver.key, [outcome]))
    assert desk.failures()["r"] == f"the engine on node b {why}: restart it"
    assert desk.cancelled == [1]


def test_a_vector_is_asked_for_and_ends_its_request() -> None:
    desk = Desk()
    desk.ask("r", prompt=50, pool="mean")
    assert (begin(desk).pool, begin(desk).max_tokens) == ("mean", 0)
    driver = desk.cluster.machine.driver
    desk.serving.stepped(driver.node, Step(driver.key, [Outcome(1, [], "stop")]))
    assert desk.serving.busy == (1, 0), "its end is the vector"
    foreign = Pooled(desk.cluster.machine.engines[0].key, 1, b"")
    desk.serving.pooled("a", foreign)
    desk.serving.pooled(driver.node, Pooled(driver.key, 1, b"\0\0\x80?"))
    assert last(desk) == Embedded("r", b"\0\0\x80?", 50)
    assert (desk.serving.busy, desk.cancelled) == ((0, 0), [])


def test_a_vector_that_nobody_asked_for_is_no_answer() -> None:
    desk = Desk()
    desk.ask("r")
    driver = desk.cluster.machine.driver
    desk.serving.pooled(driver.node, Pooled(driver.key, 1, b"\0\0\x80?"))
    assert last(desk) == Accepted("r", 4)


@pytest.mark.parametrize("vector", [b"", b"\0\0\x80"])
def test_what_is_no_vector_fails_the_request(vector: bytes) -> None:
    desk = Desk()
    desk.ask("r", pool="last")
    driver = desk.cluster.machine.driver
    desk.serving.pooled(driver.node, Pooled(driver.key, 1, vector))
    assert desk.failures()["r"] == f"the engine on node b sent a vector of {len(vector)} bytes: restart it"


def test_what_the_engine_cannot_begin_was_no_request_and_what_it_cannot_end_is_lost() -> None:
    desk = Desk()
    desk.ask("never")
    desk.ask("begun")
    desk.token(2, 65)
    driver = desk.cluster.machine.driver
    desk.serving.stepped(driver.node, Step(driver.key, [], failed={1: "no such grammar", 2: "out of memory"}))
    assert [message for _, message in desk.to_client[-2:]] == [
        Failed("never", "no such grammar", code="invalid"),
        Failed("begun", "out of memory", 1, "lost"),
    ]
    assert desk.serving.busy == (0, 0)


def test_the_account_tells_of_cached_tokens_and_of_the_time_in_the_queue() -> None:
    desk = Desk(Limits(concurrent=1))
    desk.ask("first")
    desk.ask("second", prompt=9)
    desk.cluster.clock.advance(2.0)
    desk.token(1, 65, finish="length")
    desk.cluster.clock.advance(1.0)
    driver = desk.cluster.machine.driver
    timing = ChunkTiming([(2, 8)], 1, False, 10**9, 2 * 10**9, [(0, 0, 0)] * 2)
    desk.serving.stepped(driver.node, Step(driver.key, [Outcome(2, [66], "stop", cached=6)], timing))
    done = last(desk)
    assert isinstance(done, Completed)
    assert (done.cached_tokens, done.queued_s, done.ttft_s, done.prefill_tok_s) == (6, 2.0, 3.0, 3.0)


def test_memory_is_waited_for_in_order_and_what_will_never_fit_is_refused() -> None:
    costs = (KvCost(0, 1, 1024), KvCost(0, 10, 10240))
    desk = Desk(Limits(concurrent=8, queued=2), Cluster("ab").serving(kv=costs))
    for name in "abcd":
        desk.ask(name)
    assert desk.begun == [1, 2, 3], "three blocks of 256 positions are left by the quarter for prefixes"
    assert desk.serving.kv_usage == {"a": 0.75, "b": 0.75}
    desk.ask("e")
    late = desk.ask("f")
    assert isinstance(late, Failed)
    assert late.code == "busy", "places are free, and memory is not"
    assert desk.serving.arrive(1, desk.generate("g")) is None, "which is known before its prompt is encoded"
    desk.token(2, 65, finish="stop")
    assert desk.begun == [1, 2, 3, 4]


def test_a_burst_that_memory_has_no_room_for_is_held_to_the_queue_as_soon_as_its_lengths_are_known() -> None:
    costs = (KvCost(0, 1, 1024), KvCost(0, 10, 10240))
    desk = Desk(Limits(concurrent=8, queued=2), Cluster("ab").serving(kv=costs))
    burst = [desk.serving.arrive(1, desk.generate(name)) for name in "abcdefg"]
    for request in burst:
        assert request is not None
        desk.serving.encoded(request, [10, 11], desk.model)
    assert [type(message) for _, message in desk.to_client] == [Accepted] * 5 + [Failed] * 2
    assert {message.code for _, message in desk.to_client if isinstance(message, Failed)} == {"busy"}
    assert desk.serving.busy == (3, 2)


def test_the_driver_hears_what_it_may_keep_as_soon_as_the_group_serves_and_once() -> None:
    cluster = Cluster("ab").serving(kv=(KvCost(0, 1, 1024), KvCost(0, 10, 2048, trimmable=False)))
    desk = Desk(cluster=cluster)
    desk.advance(0.0)
    desk.advance(1.0)
    desk.ask("r")
    budgets = [message for _, message in desk.to_node if isinstance(message, Budget)]
    assert budgets == [Budget(cluster.machine.driver.key, 51, False)]
    assert desk.to_node[0][1] is budgets[0]


def test_what_can_never_be_held_is_too_long_and_does_not_block_the_others() -> None:
    desk = Desk(cluster=Cluster("ab").serving(kv=(KvCost(0, 1, 300), KvCost(0, 1, 10240))))
    answer = desk.ask("r")
    assert answer == Accepted("r", 4)
    failed = last(desk)
    assert isinstance(failed, Failed)
    assert failed.code == "too_long"
    assert "stage 0 on node a has 225 bytes" in failed.reason
    assert desk.serving.busy == (0, 0)


def test_when_to_try_again_is_estimated_from_the_requests_of_late() -> None:
    desk = Desk(Limits(concurrent=2, queued=0))
    desk.ask("a")
    desk.cluster.clock.advance(12.0)
    desk.token(1, 65, finish="stop")
    desk.ask("b")
    desk.ask("c")
    refused = desk.ask("d")
    assert isinstance(refused, Failed)
    assert (refused.code, refused.retry_after_s) == ("busy", 6.0)


def test_a_deployment_that_has_stopped_takes_nothing() -> None:
    desk = Desk()
    desk.cluster.machine.stop(desk.cluster.clock())
    refused = desk.ask("r")
    assert isinstance(refused, Failed)
    assert (refused.code, refused.reason) == ("unavailable", "the deployment is not serving: the deployment is stopped")
