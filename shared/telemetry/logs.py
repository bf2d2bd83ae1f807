"""Structured logs: one JSON object a line with the field names of Cloud Logging, or lines for people.

Every line carries what is bound in the current task (`structlog.contextvars`: job id, attempt, stage) and the ids of
the current span. Values of keys that name secrets are masked, and so are passwords in addresses, tokens, keys by their
shape, and the secrets of this process wherever they stand. Libraries log through the same road, from WARNING on.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any, Literal

import structlog
from pydantic import SecretStr
from structlog.processors import CallsiteParameter, CallsiteParameterAdder
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.database_url import passwords
from shared.settings import CommonSettings
from shared.telemetry.tracing import current_trace, current_trace_is_sampled

MASK = "***"

_SECRET_KEY = re.compile(
    r"authorization|cookie|passw(or)?d|secret|credential|api_?key|private_?key|access_token|refresh_token|id_token"
    r"|^token$|database_url|dsn|signature",
    re.IGNORECASE,
)
_SECRET_IN_TEXT = re.compile(
    r"(?<=://)([^/\s:@]*):[^/\s@]+(?=@)|(?<=[Bb]earer )[\w.~+/=-]+"
    r"|([?&](?:key|token|access_token|X-Goog-Signature|X-Goog-Credential)=)[^&\s]+"
    # By their shape: keys and access tokens of Google, signed tokens, private keys.
    r"|\bAIza[\w-]{30,}|\bya29\.[\w.-]+|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_SECRET_CHARACTERS = 6
"""A shorter secret would mask half of every line."""

_LABELS = ("job_id", "attempt", "stage", "subscription")
_DEPTH = 6

_CALLSITE = CallsiteParameterAdder({CallsiteParameter.PATHNAME, CallsiteParameter.FUNC_NAME, CallsiteParameter.LINENO})

Format = Literal["json", "console"]


def configure_logs(
    level: str = "INFO",
    format: Format = "json",  # noqa: A002 - what it is called everywhere
    *,
    project_id: str | None = None,
    secrets: Collection[str] = (),
) -> None:
    """Send all logs of this process to stderr. May be called again; the last call counts.

    `project_id` turns trace ids into links between Cloud Logging and Cloud Trace. `secrets` are masked wherever they
    stand, whatever wrote them there.
    """
    out = _Stderr(secrets)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _Trace(project_id),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    render: list[Processor] = (
        [_CALLSITE, _cloud_names, structlog.processors.JSONRenderer(ensure_ascii=False, default=repr)]
        if format == "json"
        else [structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time")]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=lambda *_: out,
        cache_logger_on_first_use=False,
    )
    handler = _LibraryHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[_CALLSITE, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render[1:]]
            if format == "json"
            else [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _LibraryHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def secret_values(settings: CommonSettings) -> list[str]:
    """Return what must not be written: the values of all secret settings, and the passwords in addresses among them."""
    secrets = [value.get_secret_value() for _, value in settings if isinstance(value, SecretStr)]
    return secrets + [form for secret in secrets if "://" in secret for form in sorted(passwords(secret))]


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
                event["logging.googleapis.com/trace_sampled"] = current_trace_is_sampled()
        return event


def _cloud_names(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    line: dict[str, Any] = {"severity": str(event.pop("level", "info")).upper(), "message": event.pop("event", "")}
    if "exception" in event:
        line["stack_trace"] = event.pop("exception")
    path, function, number = (event.pop(name, None) for name in ("pathname", "func_name", "lineno"))
    if path is not None:
        line["logging.googleapis.com/sourceLocation"] = {
            "file": "/".join(str(path).split("/")[-3:]),
            "line": str(number),
            "function": str(function),
        }
    labels = {name: str(event[name]) for name in _LABELS if event.get(name) is not None}
    if labels:
        line["logging.googleapis.com/labels"] = labels  # found by an index; fields of the payload are searched
    return line | dict(event)


class _Stderr:
    """Writes lines to whatever `sys.stderr` is at that moment, so that redirection works after configuration."""

    def __init__(self, secrets: Collection[str]) -> None:
        known = {form for one in secrets if len(one) >= _SECRET_CHARACTERS for form in (one, json.dumps(one)[1:-1])}
        self._secrets = sorted(known, key=len, reverse=True)

    def msg(self, line: str) -> None:
        for secret in self._secrets:
            line = line.replace(secret, MASK)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    debug = info = warning = error = critical = fatal = exception = log = msg


class _LibraryHandler(logging.Handler):
    """Ours among the root logger's handlers, and like `_Stderr` free of a stream of its own."""

    def __init__(self, out: _Stderr) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._out.msg(self.format(record))
        except Exception:  # noqa: BLE001 - logging must not take the caller down; the standard handler says what failed
            self.handleError(record)
