"""Small stand-ins for the ports that the api asks, and makers of jobs with sensible defaults."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from shared.errors import InvalidRequest, NotFound
from shared.model.document import ObjectRef, SearchHit
from shared.model.job import TERMINAL, Job, JobEvent, JobType, Lane, Stage, Status
from shared.model.locator import Locator, LocatorKind
from shared.model.space import EmbeddingSpace
from shared.ports.models import Embeddings, Purpose
from shared.ports.stores import JobFilter, Page, Scope, SearchRequest, Stats

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SPACE = EmbeddingSpace(model="fake", dimensions=3)


def a_job(name: str = "acme/handbook.pdf", **changes: Any) -> Job:
    """Return a pending job of organization `acme`, with these fields changed."""
    values: dict[str, Any] = {
        "id": uuid4(), "document_id": uuid4(), "job_type": JobType.DOCUMENT_PROCESSING, "bucket": "uploads",
        "name": name, "file_path": f"gs://uploads/{name}", "generation": 1_700_000_000_000_001,
        "organization_id": "acme", "user_id": None, "lane": Lane.INTERACTIVE, "priority": 0,
        "status": Status.PENDING, "stage": Stage.PENDING, "attempts": 0, "max_attempts": 4, "retry_count": 0,
        "rescue_count": 0, "quarantined": False, "next_attempt_at": NOON, "deferred_reason": None,
        "deferred_since": None, "lease_owner": None, "lease_epoch": 0, "lease_until": None, "progress_done": 0,
        "progress_total": None, "progress_unit": None, "created_at": NOON, "updated_at": NOON, "started_at": None,
        "completed_at": None,
    }  # fmt: skip
    return Job(**(values | changes))


def a_ledger(job: Job, *stages: Stage) -> list[JobEvent]:
    """Return moves through these stages, a second each; the last one still lasts."""
    return [
        JobEvent(
            job_id=job.id,
            seq=index,
            attempt=1,
            status=_status_in(stage),
            stage=stage,
            occurred_at=NOON + timedelta(seconds=index - 1),
            duration_ms=None if index == len(stages) else 1000,
            detail={},
        )
        for index, stage in enumerate(stages, start=1)
    ]


def _status_in(stage: Stage) -> Status:
    return Status(stage.value) if stage.value in {status.value for status in Status} else Status.PROCESSING


def a_hit(name: str = "acme/handbook.pdf", text: str = "The gate opens at dawn.", score: float = 0.9) -> SearchHit:
    """Return a passage of page 3."""
    return SearchHit(
        document_id=uuid4(),
        ref=ObjectRef("uploads", name),
        generation=7,
        media_type="application/pdf",
        ordinal=4,
        text=text,
        locator=Locator(kind=LocatorKind.PAGE, page=3),
        score=score,
        vector_score=0.8,
        text_score=None,
    )


class FakeDirectory:
    """Jobs in a dictionary. `moved` is notified when a test adds a move; `read` counts looks at ledgers."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs: dict[UUID, Job] = {job.id: job for job in jobs}
        self.ledgers: dict[UUID, list[JobEvent]] = {}
        self.ledger_reads = 0
        self.looked = asyncio.Condition()
        self.failure: Exception | None = None

    async def get(self, job_id: UUID, scope: Scope) -> Job | None:
        if self.failure is not None:
            raise self.failure
        job = self.jobs.get(job_id)
        return job if job is not None and scope.organization_id in {None, job.organization_id} else None

    async def ledger(self, job_id: UUID, scope: Scope) -> list[JobEvent]:
        async with self.looked:
            self.ledger_reads += 1
            self.looked.notify_all()
        if self.failure is not None:
            raise self.failure
        return list(self.ledgers.get(job_id, []))

    async def page(self, filters: JobFilter, scope: Scope, *, cursor: str | None, limit: int) -> Page:
        if cursor is not None and not cursor.isdigit():
            raise InvalidRequest("this cursor is not ours.")
        start = int(cursor or 0)
        found = [job for job in self.jobs.values() if _matches(job, filters)]
        end = start + limit
        return Page(jobs=found[start:end], next_cursor=str(end) if end < len(found) else None)

    async def stats(self, scope: Scope) -> Stats:
        return Stats(
            by_status=Counter(job.status.value for job in self.jobs.values()),
            by_stage={"embedding": 1}, by_error_code={"CORRUPT": 1}, by_lane_pending={"interactive": 2},
            oldest_due_seconds=12.5, documents=4, chunks=40, dead_letters_open=1, last_recover_run={"rescued": 1},
        )  # fmt: skip

    async def retry(self, job_id: UUID, scope: Scope) -> Job:
        job = self._mine(job_id, scope)
        if job.status not in {Status.FAILED, Status.CANCELLED}:
            raise InvalidRequest("only failed or cancelled jobs are retried.", code="NOT_RETRYABLE_STATE")
        return self._put(replace(job, status=Status.PENDING, stage=Stage.PENDING))

    async def cancel(self, job_id: UUID, scope: Scope) -> Job:
        job = self._mine(job_id, scope)
        if job.status in TERMINAL - {Status.CANCELLED}:
            raise InvalidRequest("the job has ended.", code="NOT_CANCELLABLE_STATE")
        return self._put(replace(job, status=Status.CANCELLED))

    def _mine(self, job_id: UUID, scope: Scope) -> Job:
        job = self.jobs.get(job_id)
        if job is None or scope.organization_id not in {None, job.organization_id}:
            raise NotFound("there is no such job.")
        return job

    def _put(self, job: Job) -> Job:
        self.jobs[job.id] = job
        return job


def _matches(job: Job, filters: JobFilter) -> bool:
    wanted = {
        "status": filters.status, "stage": filters.stage, "organization_id": filters.organization_id,
        "job_type": filters.job_type, "error_code": filters.error_code,
    }  # fmt: skip
    same = all(value is None or getattr(job, name) == value for name, value in wanted.items())
    return same and (job.name or "").startswith(filters.name_prefix or "")


class FakeIndex:
    """Answers every search with the same hits, and keeps what was asked."""

    def __init__(self, *hits: SearchHit) -> None:
        self.hits = list(hits)
        self.asked: list[SearchRequest] = []

    async def search(self, request: SearchRequest) -> list[SearchHit]:
        self.asked.append(request)
        return self.hits[: request.limit]


class FakeEmbedder:
    """One vector for everything. Hangs for ever when told to, or fails."""

    space = SPACE
    batch_size = 8
    max_tokens = 256

    def __init__(self) -> None:
        self.purposes: list[Purpose] = []
        self.hangs = False
        self.failure: Exception | None = None

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    async def embed(self, texts: Sequence[str], *, purpose: Purpose) -> Embeddings:
        self.purposes.append(purpose)
        if self.failure is not None:
            raise self.failure
        if self.hangs:
            await asyncio.Event().wait()
        return Embeddings(vectors=[[1.0, 0.0, 0.0] for _ in texts], tokens=3, calls=1)
