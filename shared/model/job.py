"""A job: the row that is the truth about the work on one object generation, and the moves it may make.

    pending ──claim──▶ processing: downloading ▶ processing ▶ embedding ▶ storing ──swap──▶ completed
       ▲                   │  (stages go forward and may skip; a resumed job may enter any of them)
       ├── retry, deferral,┤
       │   rescue, shutdown├──▶ failed      ──retry by a person──▶ pending
       └───────────────────┴──▶ cancelled   ──retry by a person──▶ pending   (keeps its last stage)

A completed job goes back to pending in one case: its generation was taken for gone, its passages with it, and is there
again. There is one job for each generation, so it is this one that reads it once more.

The database refuses every other move too (`headrace_move_is_legal` in the schema); a test holds the two equal.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID


class Status(enum.StrEnum):
    """What became of a job."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Stage(enum.StrEnum):
    """Where a job is; never behind the committed work."""

    PENDING = "pending"
    DOWNLOADING = "downloading"
    PROCESSING = "processing"
    EMBEDDING = "embedding"
    STORING = "storing"
    COMPLETED = "completed"
    FAILED = "failed"


WORKING_STAGES = (Stage.DOWNLOADING, Stage.PROCESSING, Stage.EMBEDDING, Stage.STORING)
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Lane(enum.StrEnum):
    """Two queues in one: people wait for the first, nobody for the second."""

    INTERACTIVE = "interactive"
    BULK = "bulk"


class JobType(enum.StrEnum):
    """The kinds of work; each has a handler in the process service's registry, but for what is history."""

    DOCUMENT_PROCESSING = "document_processing"
    EMBEDDING_GENERATION = "embedding_generation"
    BULK_IMPORT = "bulk_import"
    AUDIT_CLEANUP = "audit_cleanup"
    JIRA_REFRESH = "jira_refresh"
    MONDAY_SYNC = "monday_sync"
    HISTORY = "history"

    @classmethod
    def named(cls, value: str) -> JobType:
        """Return the type of a row, also one that only a newer version knows: that one belongs to no handler."""
        if value in cls._value2member_map_:
            return cls(value)
        stranger = str.__new__(cls, value)
        stranger._name_, stranger._value_ = "UNKNOWN", value
        return stranger


def state_is_consistent(status: Status, stage: Stage) -> bool:
    """Say whether a row may hold this pair at all."""
    match status:
        case Status.PENDING:
            return stage is Stage.PENDING
        case Status.PROCESSING:
            return stage in WORKING_STAGES
        case Status.COMPLETED:
            return stage is Stage.COMPLETED
        case Status.FAILED:
            return stage is Stage.FAILED
        case Status.CANCELLED:
            return stage not in {Stage.COMPLETED, Stage.FAILED}


def move_is_legal(status: Status, stage: Stage, to_status: Status, to_stage: Stage) -> bool:
    """Say whether a job may go from one pair to another; both pairs must be consistent. Standing still is no move."""
    if not (state_is_consistent(status, stage) and state_is_consistent(to_status, to_stage)):
        return False
    if (status, stage) == (to_status, to_stage):
        return False
    match status, to_status:
        case (Status.PENDING, Status.PROCESSING | Status.FAILED):
            return True
        case (Status.PROCESSING, Status.PROCESSING):
            return WORKING_STAGES.index(to_stage) > WORKING_STAGES.index(stage)
        case (Status.PROCESSING, Status.PENDING | Status.COMPLETED | Status.FAILED):
            return True
        case (Status.PENDING | Status.PROCESSING, Status.CANCELLED):
            return to_stage is stage
        case (Status.COMPLETED | Status.FAILED | Status.CANCELLED, Status.PENDING):
            return True
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    """A worker's claim on a job. Whoever holds another epoch than the row's can write nothing."""

    job_id: UUID
    document_id: UUID | None
    owner: str
    epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One row of `document_processing_jobs`, as everybody but the database sees it."""

    id: UUID
    document_id: UUID | None
    job_type: JobType
    bucket: str | None
    name: str | None
    file_path: str | None
    generation: int | None
    organization_id: str
    user_id: str | None
    lane: Lane
    priority: int
    status: Status
    stage: Stage
    attempts: int
    max_attempts: int
    retry_count: int
    rescue_count: int
    quarantined: bool
    next_attempt_at: datetime
    deferred_reason: str | None
    deferred_since: datetime | None
    lease_owner: str | None
    lease_epoch: int
    lease_until: datetime | None
    progress_done: int
    progress_total: int | None
    progress_unit: str | None
    payload: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    checkpoint: dict[str, Any] | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    media_type: str | None = None
    size_bytes: int | None = None
    content_sha256: str | None = None
    model_calls: int = 0
    tokens_used: int = 0
    tokens_saved: int = 0
    cost_micros: int = 0
    cost_saved_micros: int = 0
    pages_read: int | None = None
    """By a model, those included that it refused; None where no model was there to read any."""
    page_tokens: int = 0
    """Of `tokens_used`, what was read and written for pages."""
    page_cost_micros: int = 0
    """Of `cost_micros`, what that cost."""
    trace_parent: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    completed_at: datetime | None

    @property
    def lease(self) -> Lease:
        """The lease under which this job was claimed."""
        return Lease(job_id=self.id, document_id=self.document_id, owner=self.lease_owner or "", epoch=self.lease_epoch)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobEvent:
    """One line of a job's ledger: a move that was committed. `seq` counts from 1 within the job, without gaps."""

    job_id: UUID
    seq: int
    attempt: int
    status: Status
    stage: Stage
    occurred_at: datetime
    duration_ms: int | None
    """How long the job stayed in this state; None while it still does, or for an end."""
    detail: dict[str, Any]
