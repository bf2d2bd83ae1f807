#!/usr/bin/env python3
"""The reference pages that are made from the code: configuration.md, errors.md, events.md and metrics.md.

`python -m docs.generate` prints what differs and says so with its exit code; with `--write` it writes the pages. A test
compares them too, so a setting, a code, an event or a subscription cannot change without its page.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import BaseMetadata, Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from services.api.settings import ApiSettings
from services.ingest.settings import IngestSettings
from services.process.settings import ProcessSettings
from services.recover.settings import RecoverSettings
from shared import codes
from shared.events.catalogue import CATALOGUE, DeadLettered, Event, StageChanged, WorkBell
from shared.pubsub.topics import DEAD_LETTERS, PREFIX, REPLAY, STAGES, SUBSCRIPTIONS, TOPICS, UPLOADS, WORK
from shared.settings import CommonSettings, DatabaseSettings, MigrateSettings
from shared.settings import variables as variables_of
from shared.telemetry import instruments

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by `python -m docs.generate --write`; a test compares it with the code. -->\n"

SERVICES: dict[str, type[CommonSettings]] = {
    "ingest": IngestSettings,
    "process": ProcessSettings,
    "recover": RecoverSettings,
    "api": ApiSettings,
}
PROCESSES: dict[str, type[DatabaseSettings]] = {
    **{f"The {name} service": settings for name, settings in SERVICES.items()},
    "Migrations: `python -m shared.postgres.migrate`": MigrateSettings,
}

SAID_ON: dict[type[Event], tuple[str, str]] = {
    WorkBell: (WORK, "`lane`, for the filters of the two subscriptions"),
    StageChanged: (STAGES, "`organization_id`, `status`, `stage`; the ordering key is the job's id"),
    DeadLettered: (DEAD_LETTERS, "`dead_letter_id`, `code`"),
}
TOPIC_SAYS = {
    UPLOADS: "Notifications of the bucket, as Cloud Storage sends them; read as hints.",
    WORK: "Bells: a lane has work.",
    STAGES: "Every committed move of every job, in order per job.",
    DEAD_LETTERS: "What came to its end without success: jobs that failed, messages nobody could handle.",
    REPLAY: "Requests to replay dead letters, as people make them with gcloud.",
}


def configuration() -> str:
    """Return configuration.md."""
    parts = [
        "# Configuration\n",
        NOTE,
        "All settings are environment variables. Each service reads them once, at its start, and refuses to start",
        "with one message that names every wrong or missing one. Secrets appear in no log and no error.\n",
        "On a laptop `./headrace up` sets addresses itself; a `DATABASE_URL` of yours takes the place of the",
        "embedded Postgres. Two variables belong to the command line: `HEADRACE_DATA` (the data directory, else",
        "`.headrace`) and `HEADRACE_PYTHON` (the Python that `.venv` is made with).\n",
    ]
    parts += [
        "One table for each process; **own** variables are read by that one alone. `BUCKET=` counts as not set. Lists",
        "and objects are written as JSON. A variable that is nearly one of these, while that one is not set, is named",
        "in the log (`settings.misspelt`) or in the message.\n",
    ]
    for name, settings in PROCESSES.items():
        parts += [f"## {name}\n", *_settings_table(settings)]
    return "\n".join(parts).rstrip() + "\n"


def events() -> str:
    """Return events.md."""
    parts = [
        "# Events, topics and subscriptions\n",
        NOTE,
        "Bodies are JSON. Every event carries the attributes `event_type`, `event_version` and, where there is one,",
        "`traceparent`. Consumers ignore fields they do not know; fields are only ever added, and a new",
        "meaning is a new version. The JSON schemas stand in `shared/events/schemas/`. Delivery is at least once; the",
        "broker may lose everything without losing work ([ADR 2](adr/0002-the-database-is-the-queue.md)).\n",
        "## Events\n",
    ]
    for kind in CATALOGUE:
        topic, attributes = SAID_ON[kind]
        parts += [
            f"### `{kind.TYPE}` version {kind.VERSION}\n",
            f"{_sentences(kind)}\n",
            f"Topic `{PREFIX}{topic}`; further attributes: {attributes}.\n",
            "| field | type | |",
            "|---|---|---|",
            *(_event_field(name, field) for name, field in kind.model_fields.items()),
            "",
        ]
    parts += [
        "## Topics\n",
        "| topic | what is said on it |",
        "|---|---|",
        *(f"| `{PREFIX}{topic}` | {TOPIC_SAYS[topic]} |" for topic in TOPICS),
        "",
        "## Subscriptions\n",
        "`people`: for looking with `gcloud pubsub subscriptions pull`. Those of ingest and process, and",
        f"`{PREFIX}replay-recover`, are pulled from or pushed to (`DELIVERY`): a push goes to `/push/` and the name",
        f"without `{PREFIX}`, with an ack deadline of 600 s. Recover takes from `{PREFIX}dead-letters-intake` in each",
        "run. After so many deliveries a message goes to the dead-letter topic. Backoff is what Pub/Sub waits after a",
        "nack; the retries of a *job* stand in the database and have their own times.\n",
        "| subscription | topic | for | filter | ordered | ack deadline | deliveries | backoff | kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in SUBSCRIPTIONS:
        cells = (
            f"`{PREFIX}{entry.name}`",
            f"`{PREFIX}{entry.topic}`",
            entry.consumer,
            f"`{entry.filter}`" if entry.filter else "",
            "yes" if entry.ordering else "",
            f"{entry.ack_deadline_seconds} s",
            str(entry.max_delivery_attempts) if entry.max_delivery_attempts else "unbounded",
            f"{entry.min_backoff_seconds} to {entry.max_backoff_seconds} s",
            f"{entry.retention_seconds // 86_400} days",
        )
        parts.append(_row(*cells))
    return "\n".join(parts).rstrip() + "\n"


def errors() -> str:
    """Return errors.md."""
    parts = [
        "# Error codes\n",
        NOTE,
        "A code is stable: it stands on the job (`error_code`), on its dead letter, in the ledger, in metrics, logs",
        "and in `application/problem+json`. The sentence beside it is for people and may change. What to do with many",
        "of one code at once: [operations](operations.md).\n",
        "**Again by itself**: tried again, with growing waits and a bound (`MAX_RETRY_ATTEMPTS`); a rate limit costs",
        "no attempt. A job fails with such a code only when the bound is reached. Everything else ends at once: the",
        "same input would fail again. Other errors of HTTP have their status's name as code (`METHOD_NOT_ALLOWED`).\n",
    ]
    for place, entries in codes.BY_PLACE.items():
        parts += [
            f"## {place.value}\n",
            "| code | again by itself | what it means | what to do | from |",
            "|---|---|---|---|---|",
        ]
        parts += [
            _row(f"`{entry.code}`", "yes" if entry.retryable else "", entry.meaning, entry.action, entry.origin)
            for entry in entries
        ]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def metrics() -> str:
    """Return metrics.md."""
    parts = [
        "# Metrics\n",
        NOTE,
        "Every service shows its own at `/metrics` and sends them where `TELEMETRY_EXPORTER` says. Names that are",
        "sent have dots; at `/metrics` they are underscores, followed by the unit's name and, for counters, `_total`:",
        "both are given. Labels have few values: never a tenant, a file or an id. *Alert* is the policy that watches",
        "the same thing, by log lines or the platform's own metrics, so it works without any exporter; its runbook",
        "stands in [operations](operations.md). What the recover service shows is what its last run saw.\n",
        "| name | kind | unit | labels | what it says | alert |",
        "|---|---|---|---|---|---|",
    ]
    parts += [
        _row(
            f"`{entry.name}` `{instruments.shown_name(entry)}`",
            entry.kind,
            f"`{entry.unit}`",
            ", ".join(f"`{label}`" for label in entry.labels),
            entry.description,
            entry.alert.replace("_", "-"),
        )
        for entry in sorted(instruments.CATALOGUE, key=lambda entry: entry.name)
    ]
    return "\n".join(parts).rstrip() + "\n"


PAGES = {"configuration.md": configuration, "errors.md": errors, "events.md": events, "metrics.md": metrics}


def _settings_table(settings: type[DatabaseSettings]) -> Iterator[str]:
    yield "| variable | type | default | required | secret | |"
    yield "|---|---|---|---|---|---|"
    for name, variables in sorted(variables_of(settings).items(), key=lambda entry: entry[1]):
        field = settings.model_fields[name]
        own = sum(name in kind.model_fields for kind in PROCESSES.values()) == 1
        yield _row(
            " or ".join(f"`{variable}`" for variable in variables),
            _allowed(field),
            _default(field),
            "yes" if field.is_required() else "",
            "yes" if _without_none(field.annotation) is SecretStr else "",
            ("**own** " if own else "") + (field.description or ""),
        )
    yield ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    if field.default_factory is not None:
        return "made at the start"
    if field.default is None:
        return ""
    value = field.default
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


_KINDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    bool: "`true` or `false`",
    tuple: "JSON list",
    dict: "JSON object",
}


def _allowed(field: FieldInfo) -> str:
    annotation = _without_none(field.annotation)
    if annotation is SecretStr:
        return "text"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    kind = _KINDS.get(get_origin(annotation) or annotation, str(annotation))
    bounds = [bound for bound in map(_bound, field.metadata) if bound]
    return " ".join((kind, _and(bounds))) if bounds else kind


def _bound(constraint: BaseMetadata) -> str:
    match constraint:
        case Ge(ge=bound):
            return f"≥ {_number(bound)}"
        case Gt(gt=bound):
            return f"> {_number(bound)}"
        case Le(le=bound):
            return f"≤ {_number(bound)}"
        case Lt(lt=bound):
            return f"< {_number(bound)}"
        case MinLen(min_length=length):
            return "not empty" if length == 1 else f"of {length} characters or more"
        case MaxLen(max_length=length):
            return f"of {length} characters at most"
    return ""


def _number(bound: Any) -> str:
    return f"{bound:,}" if isinstance(bound, int) else str(bound)


def _event_field(name: str, field: FieldInfo) -> str:
    annotation = _without_none(field.annotation)
    if get_origin(annotation) is Literal:
        kind = ", ".join(f"`{choice}`" for choice in get_args(annotation))
    else:
        kind = {"UUID": "uuid", "datetime": "time, RFC 3339", "int": "integer", "str": "string", "bool": "boolean"}.get(
            annotation.__name__, ", ".join(f"`{member}`" for member in getattr(annotation, "__members__", {}).values())
        )
    return _row(f"`{name}`", kind, "" if annotation is field.annotation else "or null")


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in {Union, UnionType}:
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation


def _sentences(kind: type) -> str:
    return " ".join((kind.__doc__ or "").split())


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def main(arguments: list[str]) -> int:
    """Compare, or write with `--write`; return 1 when a page differs."""
    stale = [
        name for name, make in PAGES.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != make()
    ]
    if "--write" in arguments:
        for name in stale:
            (FOLDER / name).write_text(PAGES[name]())
        return 0
    for name in stale:
        sys.stderr.write(f"docs/{name} is not what the code says; run: python -m docs.generate --write\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
