"""One OpenTelemetry span per request, its waiting, prefill and decode below it, if `api.otlp` names a collector.

Spans are made from a request's account when it has ended, so nothing is done while it runs. Names of attributes are
those of OpenTelemetry's conventions for generative AI (`gen_ai.*`); what they have no name for is `nova.*`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from nova.errors import ConfigError
from nova.wire.requests import Completed, Failed

Attributes = dict[str, str | int | float | list[str]]


@dataclass(frozen=True)
class Interval:
    """A span before OpenTelemetry: Unix nanoseconds, never negative in length. `error` is "" where all went well."""

    name: str
    start_ns: int
    end_ns: int
    attributes: Attributes = field(default_factory=dict)
    error: str = ""


def intervals(model: str, done: Completed | Failed, started_ns: int, ended_ns: int) -> list[Interval]:
    """The request, then its parts. Pure.

    Parts that the account does not know are left out: all of a failed request, decode of one that gave no token.
    """
    ended_ns = max(started_ns, ended_ns)
    attributes: Attributes = {"gen_ai.provider.name": "nova", "gen_ai.response.id": done.request}
    if model:
        attributes["gen_ai.request.model"] = model
    if isinstance(done, Failed):
        failed: Attributes = {"error.type": done.code, "gen_ai.usage.output_tokens": done.tokens_sent}
        return [Interval("request", started_ns, ended_ns, attributes | failed, done.reason)]
    begun = min(ended_ns, started_ns + _ns(done.queued_s))
    first = min(ended_ns, max(begun, started_ns + _ns(done.ttft_s))) if done.completion_tokens else ended_ns
    account: Attributes = {
        "gen_ai.usage.input_tokens": done.prompt_tokens,
        "gen_ai.usage.output_tokens": done.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": done.cached_tokens,
        "gen_ai.response.finish_reasons": [done.finish],
        "gen_ai.response.time_to_first_chunk": done.ttft_s,
        "nova.queue_seconds": done.queued_s,
        "nova.transport": done.transport,
    }
    parts = [
        Interval("queue", started_ns, begun),
        Interval("prefill", begun, first, {"nova.tokens": done.prompt_tokens - done.cached_tokens}),
    ]
    if done.completion_tokens:
        parts.append(Interval("decode", first, ended_ns, {"nova.tokens": done.completion_tokens}))
    return [Interval("request", started_ns, ended_ns, attributes | account), *parts]


def make(endpoint: str) -> Spans | None:
    """What exports to `api.otlp`; None where that is empty. Raises ConfigError without OpenTelemetry's packages."""
    return Spans(endpoint) if endpoint else None


class Spans:
    """Exports to the collector at `endpoint` (http://host:port, OTLP over HTTP). To be closed."""

    def __init__(self, endpoint: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        try:
            from nova.api.otlp import Exporter
        except ImportError as error:
            hint = "pip install nova-mlx[otel], or leave it empty"
            raise ConfigError(f"api.otlp: OpenTelemetry is not installed ({error}): {hint}") from error
        self._exporter = Exporter(endpoint)
        self._now_ns = now_ns

    def ended(self, model: str, completed: Completed | Failed, started_unix_ns: int) -> None:
        """A request has ended at this moment. Does not block."""
        self._exporter.send(intervals(model, completed, started_unix_ns, self._now_ns()))

    def close(self) -> None:
        """Give the collector a moment for what is left. Idempotent."""
        self._exporter.close()


def _ns(seconds: float) -> int:
    return int(max(0.0, seconds) * 1e9)
