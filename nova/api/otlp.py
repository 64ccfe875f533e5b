"""Spans to an OpenTelemetry collector, by the SDK. Imported only where `api.otlp` is set: it is an optional dependency.

The SDK's thread exports them in batches; what a collector does not take in time is dropped, the oldest first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from nova import __version__
from nova.api.spans import Interval

log = structlog.get_logger(__name__)

QUEUE = 2048
"""Spans that wait for the collector."""
BATCH = 256
DELAY_S = 2.0
"""s; longest pause between two batches."""
EXPORT_S = 5.0
"""s; a collector that takes one batch for longer loses it."""
CLOSE_S = 2.0
"""s; what the last batches may take at the end."""


class Exporter:
    """To be closed."""

    def __init__(self, endpoint: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it tells each failure; we tell the first
        url = f"{endpoint.rstrip('/')}/v1/traces"
        exporter = _TellsOnce(OTLPSpanExporter(endpoint=url, timeout=EXPORT_S), endpoint)
        self._processor = BatchSpanProcessor(exporter, QUEUE, DELAY_S * 1000, BATCH)
        resource = Resource.create({"service.name": "nova", "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("nova", __version__)

    def send(self, spans: Sequence[Interval]) -> None:
        """One trace: the first span, and the others below it. Does not block."""
        whole, *parts = spans
        root = self._tracer.start_span(
            whole.name, Context(), SpanKind.SERVER, whole.attributes, start_time=whole.start_ns
        )
        inside = set_span_in_context(root, Context())
        for part in parts:
            span = self._tracer.start_span(part.name, inside, attributes=part.attributes, start_time=part.start_ns)
            span.end(part.end_ns)
        if whole.error:
            root.set_status(Status(StatusCode.ERROR, whole.error))
        root.end(whole.end_ns)

    def close(self) -> None:
        """At most CLOSE_S; idempotent."""
        last = threading.Thread(target=self._processor.shutdown, name="spans-close", daemon=True)
        last.start()
        last.join(CLOSE_S)


class _TellsOnce(SpanExporter):
    """The exporter, which logs the first of several failures, and the success after them."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("the OpenTelemetry collector does not take spans; they are dropped", endpoint=self._endpoint)
        elif self._failing and not failed:
            log.info("the OpenTelemetry collector takes spans again", endpoint=self._endpoint)
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
