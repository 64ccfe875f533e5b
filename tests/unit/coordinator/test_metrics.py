"""What Prometheus reads: the figures of a request that was made by hand, and label sets that are closed."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from nova.config.schema import Deployment as Limits
from nova.coordinator.metrics import BUSY_S, OUTCOMES, Metrics, State
from nova.wire.messages import Step
from nova.wire.requests import Failed
from nova.wire.values import KvCost
from nova.wire.work import ChunkTiming, Outcome
from tests.unit.coordinator.deployments import Cluster
from tests.unit.coordinator.test_serving import Desk

MS = 1_000_000
QUIET = State(0, 0, True, 1, {})


def read(metrics: Metrics, now: float = 0.0, state: State = QUIET) -> dict[str, float]:
    """Every sample, by its name and its labels' values."""
    families = text_string_to_metric_families(metrics.render(state, now).decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_figures_of_one_request() -> None:
    desk = Desk(Limits(concurrent=1), Cluster("ab").serving(kv=(KvCost(0, 1, 1024), KvCost(0, 1, 2048))))
    desk.ask("first")
    desk.ask("second", prompt=9)
    desk.cluster.clock.advance(2.0)
    desk.token(1, 65, finish="length")
    driver = desk.cluster.machine.driver
    for seconds, finish in ((1.0, ""), (0.5, ""), (0.25, "stop")):
        desk.cluster.clock.advance(seconds)
        outcome = Outcome(2, [66], finish, cached=6 if seconds == 1.0 else 0)
        desk.serving.stepped(driver.node, Step(driver.key, [outcome]))
    seen = read(desk.metrics)
    assert seen["nova_requests_total length"] == seen["nova_requests_total stop"] == 1
    assert (seen["nova_prompt_tokens_total"], seen["nova_cached_prompt_tokens_total"]) == (13, 6)
    assert seen["nova_generation_tokens_total"] == 4
    assert seen["nova_queue_seconds_sum"] == 2.0
    assert seen["nova_time_to_first_token_seconds_sum"] == 2.0 + 3.0
    assert (seen["nova_inter_token_seconds_sum"], seen["nova_inter_token_seconds_count"]) == (0.75, 2)
    assert seen["nova_time_per_output_token_seconds_sum"] == 0.375
    assert seen["nova_request_seconds_sum"] == 2.0 + 3.75


def test_every_request_is_counted_once_by_how_it_ended() -> None:
    desk = Desk(Limits(concurrent=1, queued=1))
    desk.ask("a", session=7)
    desk.ask("b", deadline_s=1.0)
    assert isinstance(desk.ask("c"), Failed)
    desk.ask("d", deadline_s=0.0)
    desk.advance(1.0)
    desk.ask("e", prompt=50)
    desk.serving.abandon(7)
    desk.ask("f")
    desk.ask("g")
    desk.serving.fail_all("over")
    seen = read(desk.metrics)
    counted = {outcome: seen[f"nova_requests_total {outcome}"] for outcome in OUTCOMES}
    ends = {"abandoned": 1, "deadline": 1, "busy": 1, "invalid": 1, "too_long": 1, "lost": 1, "unavailable": 1}
    assert counted == dict.fromkeys(OUTCOMES, 0) | ends
    assert seen["nova_request_seconds_count"] == 0, "of those that were answered only"


def test_what_is_true_at_this_moment() -> None:
    seen = read(Metrics(["a", "b"]), state=State(3, 2, True, 4, {"a": 0.5}))
    assert (seen["nova_requests_running"], seen["nova_requests_waiting"]) == (3, 2)
    assert (seen["nova_up"], seen["nova_generation"], seen["nova_kv_cache_usage_ratio a"]) == (1, 4, 0.5)


def chunk(sent_ms: int, prefill: bool = False) -> ChunkTiming:
    """2 ms to the first stage, which computes 30 ms; 1 ms to the second, which computes 10 ms."""
    hops = [((sent_ms + 2) * MS, 0, 30_000), ((sent_ms + 33) * MS, 0, 10_000)]
    return ChunkTiming([(1, 5)], 1, prefill, sent_ms * MS, (sent_ms + 43) * MS, hops, 1000)


def test_chunks_tell_of_hops_bytes_and_how_busy_each_stage_is() -> None:
    metrics = Metrics(["a", "b"])
    for second in range(BUSY_S):
        for tenth in range(10):
            metrics.crossed(chunk(1000 * second + 100 * tenth + 1), "tcp", [0, 0], second + tenth / 10)
    seen = read(metrics, now=float(BUSY_S))
    assert seen["nova_stage_busy_ratio a 0"] == pytest.approx(0.3)
    assert seen["nova_stage_busy_ratio b 1"] == pytest.approx(0.1)
    assert seen["nova_hop_seconds_sum 0-1"] == pytest.approx(0.001 * 100)
    assert seen["nova_hop_seconds_sum 1-0"] == pytest.approx(0.002 * 100)
    assert seen["nova_transport_bytes_total tcp"] == 100 * 1000
    assert read(metrics, now=BUSY_S * 1.5)["nova_stage_busy_ratio a 0"] == pytest.approx(0.15)
    assert read(metrics, now=BUSY_S * 3.0)["nova_stage_busy_ratio a 0"] == 0.0


def test_a_prompt_s_piece_tells_nothing_of_the_way_back_and_one_stage_nothing_of_hops() -> None:
    metrics, alone = Metrics(["a", "b"]), Metrics(["a"])
    metrics.crossed(chunk(1, prefill=True), "tcp", [0, 0], 0.0)
    alone.crossed(ChunkTiming([(1, 5)], 1, False, 1, 9, [(2, 0, 3)]), "none", [0], 0.0)
    assert "nova_hop_seconds_count 1-0" not in read(metrics)
    assert not [name for name in read(alone) if name.startswith(("nova_hop_seconds_", "nova_transport_bytes_total "))]


def test_a_clock_that_is_off_does_not_make_a_hop_of_less_than_no_time() -> None:
    metrics = Metrics(["a", "b"])
    metrics.crossed(chunk(1), "tcp", [0, 10 * MS], 0.0)
    assert read(metrics)["nova_hop_seconds_sum 0-1"] == 0.0


def test_layers_that_have_moved_leave_no_stage_behind() -> None:
    metrics = Metrics(["a", "b"])
    metrics.crossed(chunk(1), "tcp", [0, 0], 0.0)
    metrics.placed(["b"])
    metrics.crossed(ChunkTiming([(1, 5)], 1, False, 1, 9, [(2, 0, 500_000)]), "none", [0], 1.0)
    seen = read(metrics, now=2.0)
    assert [name for name in seen if name.startswith("nova_stage_busy_ratio")] == ["nova_stage_busy_ratio b 0"]
    assert seen["nova_stage_busy_ratio b 0"] == pytest.approx(0.5 / BUSY_S)


def test_two_coordinators_in_one_process_do_not_share_figures() -> None:
    one, other = Metrics(["a"]), Metrics(["a"])
    one.token(None)
    assert isinstance(one._registry, CollectorRegistry)
    assert read(one)["nova_generation_tokens_total"] == 1
    assert read(other)["nova_generation_tokens_total"] == 0
