"""Structured logs: one JSON object a line with the field names of Cloud Logging, or lines for people.

Every line carries what is bound in the current task (`structlog.contextvars`: job id, attempt, stage) and the ids of
the current span. Values of keys that name secrets are masked, and so are passwords in addresses. Libraries log
through the same road, from WARNING on.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.telemetry.tracing import current_trace

MASK = "***"

_SECRET_KEY = re.compile(
    r"authorization|cookie|passw(or)?d|secret|credential|api_?key|private_?key|access_token|refresh_token|id_token"
    r"|^token$|database_url|dsn|signature",
    re.IGNORECASE,
)
_SECRET_IN_TEXT = re.compile(
    r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)|(?<=[Bb]earer )[\w.~+/=-]+|([?&](?:key|token)=)[^&\s]+"
)
_DEPTH = 6

Format = Literal["json", "console"]


def configure_logs(level: str = "INFO", format: Format = "json", *, project_id: str | None = None) -> None:  # noqa: A002
    """Send all logs of this process to stderr. May be called again; the last call counts.

    `project_id` turns trace ids into links between Cloud Logging and Cloud Trace.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _Trace(project_id),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    render: list[Processor] = (
        [_cloud_names, structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)]
        if format == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time")]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _LibraryHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def mask_secrets(_logger: WrappedLogger | None, _method: str, event: EventDict) -> EventDict:
    """Replace the values of keys that name secrets, and passwords inside addresses, at any depth."""
    for key, value in event.items():
        event[key] = MASK if _SECRET_KEY.search(key) and value is not None else _masked(value, _DEPTH)
    return event


def _masked(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _SECRET_IN_TEXT.sub(_mask_match, value)
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {
            key: MASK if isinstance(key, str) and _SECRET_KEY.search(key) else _masked(inner, depth - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(inner, depth - 1) for inner in value]
    return value


def _mask_match(match: re.Match[str]) -> str:
    if match[2]:
        return f"{match[2]}{MASK}"
    return f"{match[1]}:{MASK}" if match[1] is not None else MASK


class _Trace:
    def __init__(self, project_id: str | None) -> None:
        self._project_id = project_id

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        ids = current_trace()
        if ids is not None:
            event["trace_id"], event["span_id"] = ids
            if self._project_id:
                event["logging.googleapis.com/trace"] = f"projects/{self._project_id}/traces/{ids[0]}"
                event["logging.googleapis.com/spanId"] = ids[1]
        return event


def _cloud_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    line: dict[str, Any] = {"severity": str(event.pop("level", "info")).upper(), "message": event.pop("event", "")}
    if "exception" in event:
        line["stack_trace"] = event.pop("exception")
    return line | dict(event)


class _Stderr:
    """Writes lines to whatever `sys.stderr` is at that moment, so that redirection works after configuration."""

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = fatal = exception = log = msg


class _LibraryHandler(logging.Handler):
    """Ours among the root logger's handlers, and like `_Stderr` free of a stream of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _Stderr().msg(self.format(record))
        except Exception:  # noqa: BLE001 - logging must not take the caller down; the standard handler says what failed
            self.handleError(record)
