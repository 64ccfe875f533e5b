"""A request's account as OpenTelemetry spans, as a collector receives them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from structlog.testing import LogCapture

from nova.api import otlp
from nova.api.spans import Spans, intervals, make
from nova.clock import Deadline
from nova.errors import ConfigError
from nova.wire.requests import Completed, Failed

S = 10**9
START = 1_700_000_000 * S
LIMIT_S = 20.0


def completed(**changes: Any) -> Completed:
    fields: dict[str, Any] = {
        "request": "r1",
        "finish": "stop",
        "prompt_tokens": 40,
        "completion_tokens": 7,
        "ttft_s": 1.5,
        "prefill_tok_s": 0.0,
        "decode_tok_s": 0.0,
        "transport": "tcp",
        "stages": [],
        "breakdown": [],
        "cached_tokens": 16,
        "queued_s": 0.5,
    }
    return Completed(**{**fields, **changes})


class Collector:
    """An OTLP receiver on loopback. `status` is what it answers, the requests that it decoded are in `received`."""

    def __init__(self) -> None:
        self.status = 200
        self.received: Queue[ExportTraceServiceRequest] = Queue()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if self.path == "/v1/traces":
                    collector.received.put(ExportTraceServiceRequest.FromString(body))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setattr(otlp, "DELAY_S", 0.01)
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.01,))
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join(LIMIT_S)
    collector.server.server_close()


@contextmanager
def spans(endpoint: str, now_ns: int = START + 4 * S) -> Iterator[Spans]:
    made = Spans(endpoint, lambda: now_ns)
    try:
        yield made
    finally:
        made.close()


def plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def told(request: ExportTraceServiceRequest) -> dict[str, Any]:
    """The spans of a batch by name."""
    (resource,) = request.resource_spans
    assert "nova" in [plain(each.value) for each in resource.resource.attributes if each.key == "service.name"]
    return {span.name: span for scope in resource.scope_spans for span in scope.spans}


def facts(span: Any) -> dict[str, Any]:
    return {each.key: plain(each.value) for each in span.attributes}


def test_a_collector_gets_one_trace_per_request_with_its_parts_in_order(collector: Collector) -> None:
    with spans(collector.endpoint) as exporting:
        exporting.ended("tiny", completed(), START)
    batch = told(collector.received.get(timeout=LIMIT_S))
    assert set(batch) == {"request", "queue", "prefill", "decode"}
    whole = batch["request"]
    assert {span.trace_id for span in batch.values()} == {whole.trace_id}
    assert {batch[name].parent_span_id for name in ("queue", "prefill", "decode")} == {whole.span_id}
    assert whole.parent_span_id == b""
    ends = {name: (span.start_time_unix_nano - START, span.end_time_unix_nano - START) for name, span in batch.items()}
    half = S // 2
    assert ends == {
        "request": (0, 8 * half),
        "queue": (0, half),
        "prefill": (half, 3 * half),
        "decode": (3 * half, 8 * half),
    }
    account = facts(whole)
    assert account["gen_ai.request.model"] == "tiny"
    assert (account["gen_ai.usage.input_tokens"], account["gen_ai.usage.output_tokens"]) == (40, 7)
    assert account["gen_ai.usage.cache_read.input_tokens"] == 16
    assert account["gen_ai.response.finish_reasons"] == ["stop"]
    assert (account["gen_ai.response.time_to_first_chunk"], account["nova.queue_seconds"]) == (1.5, 0.5)
    assert (facts(batch["prefill"])["nova.tokens"], facts(batch["decode"])["nova.tokens"]) == (24, 7)


def test_a_failed_request_is_an_error_with_its_reason(collector: Collector) -> None:
    with spans(collector.endpoint) as exporting:
        exporting.ended("tiny", Failed("r2", "node b is gone", 3, "lost"), START)
    batch = told(collector.received.get(timeout=LIMIT_S))
    assert set(batch) == {"request"}
    whole = batch["request"]
    assert (whole.status.code, whole.status.message) == (2, "node b is gone")
    assert (facts(whole)["error.type"], facts(whole)["gen_ai.usage.output_tokens"]) == ("lost", 3)


def test_a_collector_that_refuses_is_told_of_once_and_its_recovery_too(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogCapture()  # of its own: other tests change what is logged
    monkeypatch.setattr(otlp, "log", structlog.wrap_logger(None, [logs], wrapper_class=structlog.BoundLogger))
    collector.status = 400  # the SDK does not try this again
    with spans(collector.endpoint) as exporting:
        for _ in range(3):
            exporting.ended("tiny", completed(), START)
            collector.received.get(timeout=LIMIT_S)
        collector.status = 200
        exporting.ended("tiny", completed(), START)
        collector.received.get(timeout=LIMIT_S)
    refused, recovered = logs.entries
    assert (refused["log_level"], recovered["log_level"]) == ("warning", "info")
    assert "does not take spans" in refused["event"]
    assert refused["endpoint"] == collector.endpoint


def test_a_collector_that_is_not_there_delays_neither_a_request_nor_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "CLOSE_S", 0.2)
    limit = Deadline.after(3.0)  # what one export may take is longer than this
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # it listens, and nobody answers
        exporting = Spans(f"http://127.0.0.1:{silent.server_port}")
        for _ in range(2 * otlp.QUEUE):
            exporting.ended("tiny", Failed("r", "why"), START)
        exporting.close()
        exporting.close()
    assert not limit.expired


def test_nothing_is_exported_without_an_endpoint() -> None:
    assert make("") is None


def test_without_its_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nova.api.otlp", None)
    with pytest.raises(ConfigError, match=r"api\.otlp: .*pip install nova-mlx\[otel\]"):
        make("http://127.0.0.1:4318")


SECONDS = st.floats(min_value=-1.0, max_value=1e6)


@given(queued=SECONDS, ttft=SECONDS, tokens=st.integers(0, 3), length=st.integers(-S, 10 * S))
def test_parts_cover_the_request_without_a_gap_whatever_the_clocks_say(
    queued: float, ttft: float, tokens: int, length: int
) -> None:
    done = completed(queued_s=queued, ttft_s=ttft, completion_tokens=tokens)
    whole, *parts = intervals("m", done, START, START + length)
    assert whole.start_ns <= whole.end_ns
    edges = [parts[0].start_ns, *(part.end_ns for part in parts)]
    assert edges == sorted(edges)
    assert [part.start_ns for part in parts] == edges[:-1]
    assert (edges[0], edges[-1]) == (whole.start_ns, whole.end_ns)
