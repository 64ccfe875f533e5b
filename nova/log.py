"""Logging: structlog for our own events and the standard library's for others', one format, to standard error.

Set up once, at a process's entry. An event is a short sentence with facts as keys:
`log.info("group formed", transport="tcp", seconds=0.031)`. Nothing secret is a key's value; as a second fence,
bytes are shown only by their length and keys that name a secret lose their value.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

HIDDEN = frozenset({"ticket", "secret", "secret_key", "private_key", "password", "authorization", "hf_token"})


def setup(level: str = "info", format: str = "text", *, stream: TextIO | None = None, **bound: object) -> None:
    """Send every log line of this process to `stream` (standard error), `bound` (as in node="a") on each line.

    `level` is debug, info, warning or error; `format` is text or json, both as in `nova.config.schema.Log`.
    May be called again; the last call counts.
    """
    out = stream if stream is not None else sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True) if format == "json" else _short_time(),
        _binder(bound),
        _hide,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _name_the_library],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(format, out)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)


def _renderers(format: str, out: TextIO) -> list[structlog.typing.Processor]:
    if format == "json":  # a traceback as text: the structured one would carry local variables, so secrets
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain, pad_event_to=0)]


def _short_time() -> structlog.typing.Processor:
    return structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False)


def _binder(bound: dict[str, object]) -> structlog.typing.Processor:
    def bind(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        for key, value in bound.items():
            event.setdefault(key, value)
        return event

    return bind


def _hide(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: "hidden" if key.lower() in HIDDEN else _veil(value) for key, value in event.items()}


def _veil(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{memoryview(value).nbytes} bytes>"
    if isinstance(value, dict):
        return {key: "hidden" if str(key).lower() in HIDDEN else _veil(item) for key, item in value.items()}
    return [_veil(item) for item in value] if isinstance(value, list | tuple) else value


def _name_the_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if record is not None:
        event.setdefault("logger", record.name)
    return event
