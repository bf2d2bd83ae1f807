"""How an event travels: its fields as JSON in the body, its identity and trace as message attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import ValidationError

from shared.errors import InvalidRequest
from shared.events.catalogue import Event

TRACE_PARENT = "traceparent"
EVENT_TYPE = "event_type"
EVENT_VERSION = "event_version"

E = TypeVar("E", bound=Event)


def attributes_of(event: Event, *, trace_parent: str | None = None, **extra: str) -> dict[str, str]:
    """Return the attributes an event travels with; `extra` are for filters (`lane=...`) and identity."""
    attributes = {EVENT_TYPE: event.TYPE, EVENT_VERSION: str(event.VERSION), **extra}
    if trace_parent:
        attributes[TRACE_PARENT] = trace_parent
    return attributes


def body_of(event: Event) -> bytes:
    """Return the event as compact JSON."""
    return event.model_dump_json().encode()


def read(kind: type[E], data: bytes, attributes: Mapping[str, str]) -> E:
    """Return the event in a message.

    Raises:
        InvalidRequest: `MALFORMED_EVENT`, another type, or a version this code does not know.
    """
    said = attributes.get(EVENT_TYPE, kind.TYPE)
    version = attributes.get(EVENT_VERSION, "1")
    if said != kind.TYPE or version != str(kind.VERSION):
        raise InvalidRequest(
            f"expected {kind.TYPE} version {kind.VERSION}, got {said} version {version}", code="MALFORMED_EVENT"
        )
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, problem["loc"])) or "body" for problem in error.errors())
        raise InvalidRequest(f"{kind.TYPE} cannot be read: {fields}", code="MALFORMED_EVENT") from None
