"""What the API says and accepts, field by field. `docs/openapi` and the clients are made from these models.

Requests refuse unknown fields. Generations are strings: JSON readers in other languages round large numbers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.model.document import SearchHit
from shared.model.job import Job, JobEvent, JobType, Lane, Stage, Status
from shared.ports.stores import Stats
from shared.worker.drift import DriftClass, DriftReport


def _storable(text: str) -> str:
    """Refuse what Postgres cannot hold as text: NUL, and halves of surrogate pairs."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("holds a character that is not text")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Prefix = Annotated[Text, Field(max_length=1024, description="Objects whose name starts with this")]
MediaType = Annotated[str, Field(max_length=128, pattern=r"^[a-z0-9]+/[a-z0-9][a-z0-9.+_-]*$")]


class Request(BaseModel):
    """A body or a set of parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Something that is sent back. Clients of an older version ignore fields that they do not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class NoParams(Request):
    """An endpoint without parameters."""


class JobParams(Request):
    """One job."""

    id: UUID


class StreamParams(JobParams):
    """One job's events; `after` is for clients that cannot send Last-Event-ID."""

    after: int = Field(0, ge=0, le=2**31 - 1, description="The last `seq` that the client has seen")


class ListParams(Request):
    """Filters of the list of jobs; all that are given must hold."""

    status: Status | None = None
    stage: Stage | None = None
    organization_id: Annotated[Text, Field(min_length=1, max_length=128)] | None = None
    job_type: JobType | None = None
    error_code: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")] | None = None
    prefix: Prefix | None = None
    cursor: Annotated[Text, Field(min_length=1, max_length=512)] | None = None
    limit: int = Field(50, ge=1, le=200)


class NewTaskBody(Request):
    """Work about many files. A backfill takes a prefix and an organization, a cleanup an age; each may be left out."""

    job_type: Literal["bulk_import", "audit_cleanup"]
    prefix: Prefix | None = None
    organization_id: Annotated[Text, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9]")] | None = None
    older_than_days: Annotated[int, Field(ge=1, le=36_500)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        strange = ("older_than_days",) if self.job_type == "bulk_import" else ("prefix", "organization_id")
        if wrong := [name for name in strange if getattr(self, name) is not None]:
            raise ValueError(f"{wrong[0]} does not belong to a {self.job_type}")
        return self


class SearchBody(Request):
    """A question in words."""

    query: Annotated[Text, Field(min_length=1, max_length=2000), AfterValidator(_not_blank)]
    limit: int = Field(10, ge=1, le=50)
    prefix: Prefix | None = None
    media_types: list[MediaType] = Field(default_factory=list, max_length=20)


class Progress(Answer):
    """How far the present stage is; `total` is unknown at first."""

    done: int
    total: int | None
    unit: str | None


class Failed(Answer):
    """Why a job ended, or why its last attempt did."""

    code: str
    message: str | None


class JobView(Answer):
    """A job as its owner sees it."""

    id: UUID
    job_type: JobType
    file_path: str | None
    generation: str | None
    organization_id: str
    user_id: str | None
    lane: Lane
    priority: int
    status: Status
    processing_stage: Stage
    progress: Progress
    attempts: int
    max_attempts: int
    retry_count: int
    rescue_count: int
    next_attempt_at: datetime
    deferred_reason: str | None
    error: Failed | None
    media_type: str | None
    size_bytes: int | None
    model_calls: int
    tokens_used: int
    tokens_saved: int
    cost_micros: int = Field(description="Millionths of the currency of MODEL_PRICES")
    cost_saved_micros: int
    pages_read: int | None = Field(description="By a model; null where none was there to read any")
    page_cost_micros: int = Field(description="Of `cost_micros`, what reading those cost")
    result: dict[str, Any] | None
    trace_id: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def fields_of(cls, job: Job) -> dict[str, Any]:
        """Return the values of these fields."""
        same = {name: getattr(job, name) for name in cls.model_fields.keys() & Job.__slots__ if name != "generation"}
        return same | {
            "generation": None if job.generation is None else str(job.generation),
            "processing_stage": job.stage,
            "progress": Progress(done=job.progress_done, total=job.progress_total, unit=job.progress_unit),
            "error": None if job.error_code is None else Failed(code=job.error_code, message=job.error_message),
            "trace_id": _trace_id(job.trace_parent),
        }

    @classmethod
    def of(cls, job: Job) -> JobView:
        """Return what is shown of a job."""
        return JobView(**JobView.fields_of(job))


def _trace_id(trace_parent: str | None) -> str | None:
    parts = (trace_parent or "").split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else None


class LedgerEntry(Answer):
    """One committed move. `duration_ms` is null for the state that a job is in now."""

    seq: int
    attempt: int
    status: Status
    stage: Stage
    occurred_at: datetime
    duration_ms: int | None
    detail: dict[str, Any]

    @classmethod
    def of(cls, event: JobEvent) -> Self:
        """Return what is shown of a ledger line."""
        return cls(**{name: getattr(event, name) for name in cls.model_fields})


class Totals(Answer):
    """Where the time went: waiting for a worker (or for a retry), and being worked on. Ended states only."""

    wait_ms: int
    work_ms: int
    elapsed_ms: int

    @classmethod
    def of(cls, events: list[JobEvent]) -> Totals:
        """Add up a ledger."""
        waited = sum(event.duration_ms or 0 for event in events if event.status is Status.PENDING)
        worked = sum(event.duration_ms or 0 for event in events if event.status is Status.PROCESSING)
        span = events[-1].occurred_at - events[0].occurred_at if events else None
        elapsed_ms = 0 if span is None else round(span.total_seconds() * 1000)
        return cls(wait_ms=waited, work_ms=worked, elapsed_ms=elapsed_ms)


class JobDetail(JobView):
    """A job with its ledger."""

    ledger: list[LedgerEntry]
    totals: Totals

    @classmethod
    def with_ledger(cls, job: Job, events: list[JobEvent]) -> JobDetail:
        """Return what is shown of a job and its moves."""
        return cls(**cls.fields_of(job), ledger=[LedgerEntry.of(event) for event in events], totals=Totals.of(events))


class JobList(Answer):
    """A page of jobs, newest first."""

    jobs: list[JobView]
    next_cursor: str | None = Field(description="Hand this back as `cursor` for the next page; null on the last one")


class StatsView(Answer):
    """What an operator looks at first."""

    by_status: dict[str, int]
    by_stage: dict[str, int]
    by_error_code: dict[str, int]
    by_lane_pending: dict[str, int]
    oldest_due_seconds: float | None
    documents: int
    chunks: int
    dead_letters_open: int
    last_recover_run: dict[str, Any] | None
    by_deferred_reason: dict[str, int]
    models: dict[str, int] = Field(description="What all jobs used and saved; money in millionths")

    @classmethod
    def of(cls, stats: Stats) -> StatsView:
        """Return the counts as they are sent."""
        return cls(**{name: getattr(stats, name) for name in cls.model_fields})


class Hit(Answer):
    """A passage and where it stands. Scores compare within one answer only."""

    uri: str
    name: str
    generation: str
    media_type: str | None
    document_id: UUID
    ordinal: int
    locator: dict[str, Any] = Field(
        description="Page, slide, sheet and cells, heading path, characters or milliseconds, by `kind`; in a PDF also"
        " `box`: x0, y0, x1, y1 in points from the upper left corner of the page as it is shown; in what is attached to"
        " a mail also `attachment`: the names that lead to it, the outermost first"
    )
    label: str = Field(description="The locator in words, such as `page 3`")
    score: float
    vector_score: float | None
    text_score: float | None
    text: str

    @classmethod
    def of(cls, hit: SearchHit) -> Hit:
        """Return what is shown of a search hit."""
        return cls(
            uri=hit.ref.uri,
            name=hit.ref.name,
            generation=str(hit.generation),
            media_type=hit.media_type,
            document_id=hit.document_id,
            ordinal=hit.ordinal,
            locator=hit.locator.to_json(),
            label=hit.locator.label,
            score=hit.score,
            vector_score=hit.vector_score,
            text_score=hit.text_score,
            text=hit.text,
        )


class SearchAnswer(Answer):
    """Passages, best first, and the space their vectors were compared in."""

    hits: list[Hit]
    space: str


class DriftParams(Request):
    """A stretch of the bucket."""

    cursor: Annotated[Text, Field(min_length=1, max_length=1024, description="Names beyond this one")] | None = None
    limit: int = Field(10_000, ge=1, le=50_000, description="How many names are compared at most")
    examples: int = Field(10, ge=0, le=100, description="How many objects of each difference are named at most")


class DriftView(Answer):
    """How bucket and index differ in a stretch of names; `settled` were in step when they were looked at once more."""

    bucket: str
    compared: int
    found: dict[DriftClass, int]
    examples: dict[DriftClass, list[str]]
    repaired: int
    settled: int
    errors: int = Field(description="Objects that could not be decided on")
    next_cursor: str | None = Field(description="Hand this back as `cursor` to go on; null at the end of the bucket")

    @classmethod
    def of(cls, bucket: str, report: DriftReport) -> Self:
        """Return a report as it is sent."""
        return cls(
            bucket=bucket,
            compared=report.compared,
            found=dict(report.found),
            examples={difference: [ref.uri for ref in refs] for difference, refs in report.examples.items() if refs},
            repaired=report.repaired,
            settled=report.settled,
            errors=report.errors,
            next_cursor=report.after,
        )


class Problem(BaseModel):
    """An error, as RFC 9457 describes it, with our stable code."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    code: str
