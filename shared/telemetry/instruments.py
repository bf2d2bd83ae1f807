"""Every metric of the product: name, unit, labels and what it means. Code counts on these objects only.

Labels have few values by construction: never a tenant, a file or an id. `/metrics` shows the names with dots as
underscores, the unit's name, and `_total` on counters. The table in docs/operations.md is made from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SECONDS = "s"
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_LONG = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 21600, 86400)


@dataclass(frozen=True, kw_only=True, slots=True)
class Instrument:
    """One metric. `buckets` are upper bounds, of histograms only."""

    kind: Literal["counter", "histogram", "gauge"]
    name: str
    unit: str
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


JOBS = Instrument(
    kind="counter",
    name="headrace.jobs",
    unit="{job}",
    description="Jobs that ended an attempt: completed, failed, cancelled, retried, deferred, handed back",
    labels=("job_type", "outcome"),
)
JOB_FAILURES = Instrument(
    kind="counter",
    name="headrace.job.failures",
    unit="{failure}",
    description="Failed attempts, by stable error code",
    labels=("code", "stage"),
)
STAGE_SECONDS = Instrument(
    kind="histogram",
    name="headrace.stage.duration",
    unit=SECONDS,
    description="How long a job stayed in a stage",
    labels=("stage",),
    buckets=_LONG,
)
QUEUE_WAIT_SECONDS = Instrument(
    kind="histogram",
    name="headrace.queue.wait",
    unit=SECONDS,
    description="From the moment a job was due to its claim",
    labels=("lane",),
    buckets=_LONG,
)
QUEUE_DEPTH = Instrument(
    kind="gauge",
    name="headrace.queue.depth",
    unit="{job}",
    description="Jobs that are pending, and of these the ones due now",
    labels=("lane", "state"),
)
RETRIES = Instrument(
    kind="counter",
    name="headrace.retries",
    unit="{retry}",
    description="Attempts that were scheduled again after a failure or a deferral",
    labels=("reason",),
)
POOL_CONNECTIONS = Instrument(
    kind="gauge",
    name="headrace.pool.connections",
    unit="{connection}",
    description="Database connections of this process: open, in use, and callers waiting for one",
    labels=("pool", "state"),
)
POOL_ACQUIRE_SECONDS = Instrument(
    kind="histogram",
    name="headrace.pool.acquire",
    unit=SECONDS,
    description="How long a caller waited for a database connection",
    labels=("pool", "outcome"),
    buckets=_SHORT,
)
MODEL_CALLS = Instrument(
    kind="counter",
    name="headrace.model.calls",
    unit="{call}",
    description="Calls to a model, each try counted",
    labels=("model", "purpose", "outcome"),
)
MODEL_SECONDS = Instrument(
    kind="histogram",
    name="headrace.model.duration",
    unit=SECONDS,
    description="How long one call to a model took",
    labels=("model", "purpose"),
    buckets=_LONG,
)
MODEL_TOKENS = Instrument(
    kind="counter",
    name="headrace.model.tokens",
    unit="{token}",
    description="Tokens spent on a model, and tokens saved because the vector was known",
    labels=("model", "kind"),
)
DELIVERIES = Instrument(
    kind="counter",
    name="headrace.deliveries",
    unit="{delivery}",
    description="Messages that were handled, by the word of their outcome",
    labels=("subscription", "verdict", "outcome"),
)
DELIVERY_SECONDS = Instrument(
    kind="histogram",
    name="headrace.delivery.duration",
    unit=SECONDS,
    description="How long the handling of a message took",
    labels=("subscription",),
    buckets=_LONG,
)
STREAM_RESTARTS = Instrument(
    kind="counter",
    name="headrace.pull.restarts",
    unit="{restart}",
    description="Pull streams that ended by themselves and were opened again",
    labels=("subscription", "code"),
)
PUBLISHED = Instrument(
    kind="counter",
    name="headrace.published",
    unit="{message}",
    description="Messages that were published, or could not be",
    labels=("topic", "outcome"),
)
DRIFT = Instrument(
    kind="gauge",
    name="headrace.drift",
    unit="{object}",
    description="Objects in which bucket and index differed, as the last complete comparison found them",
    labels=("difference",),
)
OUTBOX_LAG_SECONDS = Instrument(
    kind="gauge",
    name="headrace.outbox.lag",
    unit=SECONDS,
    description="Age of the oldest outbox row that is not published",
)
DEAD_LETTERS = Instrument(
    kind="counter",
    name="headrace.dead_letters",
    unit="{letter}",
    description="Dead letters: created, replayed, resolved, discarded",
    labels=("origin", "event"),
)
RECOVER_ACTIONS = Instrument(
    kind="counter",
    name="headrace.recover.actions",
    unit="{action}",
    description="What the duties of the recover service did",
    labels=("duty", "outcome"),
)
RECOVER_SECONDS = Instrument(
    kind="histogram",
    name="headrace.recover.duration",
    unit=SECONDS,
    description="How long a duty of one recover run took",
    labels=("duty",),
    buckets=_LONG,
)
REQUESTS = Instrument(
    kind="histogram",
    name="headrace.http.duration",
    unit=SECONDS,
    description="How long an HTTP request took, by route",
    labels=("method", "route", "status"),
    buckets=_SHORT,
)

CATALOGUE: tuple[Instrument, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))
