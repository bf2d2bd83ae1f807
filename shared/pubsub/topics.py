"""Every topic and subscription of the product, with its policies, as data.

Code, the embedded endpoint and Terraform read the same table (a test compares the last). Names are logical here; a
prefix makes them resource ids, so that several installations fit into one project.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PREFIX = "headrace-"

UPLOADS = "uploads"
WORK = "work"
STAGES = "stages"
DEAD_LETTERS = "dead-letters"
REPLAY = "replay"

TOPICS = (UPLOADS, WORK, STAGES, DEAD_LETTERS, REPLAY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Subscription:
    """One subscription. `max_delivery_attempts` of None means: no dead-letter policy."""

    name: str
    topic: str
    consumer: str
    """Which service takes from it; `people` for those that are looked at by hand."""
    ack_deadline_seconds: int = 60
    max_delivery_attempts: int | None = 10
    min_backoff_seconds: int = 10
    max_backoff_seconds: int = 600
    filter: str = ""
    ordering: bool = False
    retention_seconds: int = 7 * 24 * 3600


SUBSCRIPTIONS = (
    Subscription(name="uploads-ingest", topic=UPLOADS, consumer="ingest"),
    Subscription(name="work-interactive", topic=WORK, consumer="process", filter='attributes.lane = "interactive"'),
    Subscription(name="work-bulk", topic=WORK, consumer="process", filter='attributes.lane = "bulk"'),
    Subscription(name="stages-watch", topic=STAGES, consumer="people", ordering=True, max_delivery_attempts=None),
    # The dead-letter topic has no dead letters of its own: a letter that cannot be taken in stays where it is.
    Subscription(name="dead-letters-intake", topic=DEAD_LETTERS, consumer="recover", max_delivery_attempts=None),
    Subscription(
        name="dead-letters-inspect",
        topic=DEAD_LETTERS,
        consumer="people",
        max_delivery_attempts=None,
        retention_seconds=31 * 24 * 3600,
    ),
    Subscription(name="replay-recover", topic=REPLAY, consumer="recover"),
)


def subscription(name: str) -> Subscription:
    """Return the subscription of that logical name; an unknown one is a programming error."""
    return next(entry for entry in SUBSCRIPTIONS if entry.name == name)


def topic_path(project: str, topic: str) -> str:
    """Return the resource path of a logical topic."""
    return f"projects/{project}/topics/{PREFIX}{topic}"


def subscription_path(project: str, name: str) -> str:
    """Return the resource path of a logical subscription."""
    return f"projects/{project}/subscriptions/{PREFIX}{name}"


def topology(project: str) -> dict[str, Any]:
    """Return the whole table as JSON values, with resource ids, for the embedded endpoint to create at its start."""
    return {
        "project": project,
        "topics": [PREFIX + topic for topic in TOPICS],
        "subscriptions": [
            {
                "name": PREFIX + entry.name,
                "topic": PREFIX + entry.topic,
                "ack_deadline_seconds": entry.ack_deadline_seconds,
                "dead_letter_topic": PREFIX + DEAD_LETTERS if entry.max_delivery_attempts else None,
                "max_delivery_attempts": entry.max_delivery_attempts,
                "min_backoff_seconds": entry.min_backoff_seconds,
                "max_backoff_seconds": entry.max_backoff_seconds,
                "filter": entry.filter,
                "ordering": entry.ordering,
                "retention_seconds": entry.retention_seconds,
            }
            for entry in SUBSCRIPTIONS
        ],
    }
