"""Every metric of the product: name, unit, labels and what it means. Code counts on these objects only.

Labels have few values by construction: never a tenant, a file or an id. `/metrics` shows the names with dots as
underscores, the unit's name, and `_total` on counters. docs/metrics.md is made from here.
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
    alert: str = ""
    """Key of the alert policy that watches the same thing (infra/terraform/modules/monitoring/alerts.tf)."""


JOBS = Instrument(
    kind="counter",
    name="headrace.jobs",
    unit="{job}",
    description="Jobs that ended an attempt: completed, failed, cancelled, retried, deferred, handed back",
    labels=("job_type", "outcome"),
    alert="failing_jobs",
)
JOB_FAILURES = Instrument(
    kind="counter",
    name="headrace.job.failures",
    unit="{failure}",
    description="Failed attempts, by stable error code",
    labels=("code", "stage"),
    alert="failing_jobs",
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
QUEUE_AGE_SECONDS = Instrument(
    kind="gauge",
    name="headrace.queue.age",
    unit=SECONDS,
    description="How long the job of a lane that is due longest has waited",
    labels=("lane",),
    alert="stuck_jobs",
)
STUCK_JOBS = Instrument(
    kind="gauge",
    name="headrace.jobs.stuck",
    unit="{job}",
    description="Jobs that recover could not help: silent workers, and overdue jobs in lanes where nobody takes any",
    alert="stuck_jobs",
)
RETRIES = Instrument(
    kind="counter",
    name="headrace.retries",
    unit="{retry}",
    description="Attempts at jobs that were scheduled again after a failure or a deferral",
    labels=("reason",),
)
REDELIVERIES = Instrument(
    kind="counter",
    name="headrace.redeliveries",
    unit="{delivery}",
    description="Messages that the broker brought again, since nobody recorded what became of them",
    labels=("subscription",),
    alert="unacked",
)
POOL_CONNECTIONS = Instrument(
    kind="gauge",
    name="headrace.pool.connections",
    unit="{connection}",
    description="Database connections of this process: open, in use, and callers waiting for one",
    labels=("pool", "state"),
    alert="pool_exhausted",
)
POOL_ACQUIRE_SECONDS = Instrument(
    kind="histogram",
    name="headrace.pool.acquire",
    unit=SECONDS,
    description="How long a caller waited for a database connection",
    labels=("pool", "outcome"),
    buckets=_SHORT,
    alert="pool_exhausted",
)
MODEL_CALLS = Instrument(
    kind="counter",
    name="headrace.model.calls",
    unit="{call}",
    description="Calls to a model, each try counted",
    labels=("model", "purpose", "outcome"),
)
MODEL_RETRIES = Instrument(
    kind="counter",
    name="headrace.model.retries",
    unit="{call}",
    description="Tries beyond the first, within one call to a model that succeeded in the end",
    labels=("model",),
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
    description="Tokens of a model that were spent, or saved since the texts had vectors already",
    labels=("model", "kind"),
    alert="budget",
)
MODEL_COST = Instrument(
    kind="counter",
    name="headrace.model.cost",
    unit="1",
    description="What models cost by MODEL_PRICES, in millionths of its currency: spent, or saved",
    labels=("model", "kind"),
    alert="budget",
)
BUDGET_REFUSALS = Instrument(
    kind="counter",
    name="headrace.budget.refusals",
    unit="{job}",
    description="Jobs put off till the next day, since their organization's budget for models is used up",
    alert="budget_refusals",
)
DELIVERIES = Instrument(
    kind="counter",
    name="headrace.deliveries",
    unit="{delivery}",
    description="Messages that were handled, by the word of their outcome",
    labels=("subscription", "verdict", "outcome"),
    alert="unacked",
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
    description="Dead letters that were created (or opened again) and, of messages, that were resolved by a replay",
    labels=("origin", "event"),
    alert="dead_letters",
)
DEAD_LETTERS_OPEN = Instrument(
    kind="gauge",
    name="headrace.dead_letters.open",
    unit="{letter}",
    description="Dead letters that wait for a decision, as the last run of recover saw them",
    alert="dead_letters",
)
RECOVER_ACTIONS = Instrument(
    kind="counter",
    name="headrace.recover.actions",
    unit="{action}",
    description="What the duties of the recover service did",
    labels=("duty", "outcome"),
)
RECOVER_RUNS = Instrument(
    kind="counter",
    name="headrace.recover.runs",
    unit="{run}",
    description="Runs of recover, by whether every duty was done",
    labels=("outcome",),
    alert="recover_absent",
)
RECOVER_SECONDS = Instrument(
    kind="histogram",
    name="headrace.recover.duration",
    unit=SECONDS,
    description="How long a duty of one recover run took",
    labels=("duty",),
    buckets=_LONG,
    alert="recover_absent",
)
REQUESTS = Instrument(
    kind="histogram",
    name="headrace.http.duration",
    unit=SECONDS,
    description="How long an HTTP request took, by route",
    labels=("method", "route", "status"),
    buckets=_SHORT,
    alert="failing_requests",
)

CATALOGUE: tuple[Instrument, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))


def shown_name(instrument: Instrument) -> str:
    """Return the name that /metrics shows: of a histogram, what `_bucket`, `_sum` and `_count` are added to."""
    name = instrument.name.replace(".", "_")
    if instrument.unit == SECONDS:
        name += "_seconds"
    elif instrument.unit == "1" and instrument.kind == "gauge":
        name += "_ratio"
    return f"{name}_total" if instrument.kind == "counter" else name
