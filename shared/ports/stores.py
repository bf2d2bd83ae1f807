"""Postgres, seen from the handlers: the truth about documents, jobs, chunks and what is still to be published.

Every method is one transaction. All may raise `PoolExhausted`, `DependencyUnavailable` (nothing was written, or, for
a commit whose answer was lost, it may have been) and `Conflict` (nothing was written; run it again).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from shared.model.decision import Decision
from shared.model.document import Chunk, Document, ObjectRef, SearchHit
from shared.model.job import Job, JobEvent, Lane, Lease, Stage, Status
from shared.model.space import EmbeddingSpace
from shared.ports.models import PagesRead


@dataclass(frozen=True, kw_only=True, slots=True)
class Committed:
    """What a decision did. `job_id` is the job it made, if any."""

    document_id: UUID | None
    job_id: UUID | None
    cancelled_jobs: int = 0


class DocumentStore(Protocol):
    """One row per (bucket, name), with the revision as fence."""

    async def read(self, ref: ObjectRef) -> Document | None:
        """Return the row as committed now, or None if the name was never seen."""
        ...

    async def commit(
        self,
        ref: ObjectRef,
        decision: Decision,
        *,
        expected_revision: int,
        trace_parent: str | None = None,
        import_id: UUID | None = None,
    ) -> Committed | None:
        """Carry out a decision if the revision is still the expected one (0: no row yet); None if it has moved.

        Also None for passages that are to be kept and are not those that are shown any more. Then decide anew.

        Document, superseded jobs, the new job and its bell (outbox row) are written together or not at all. A new job
        that is made for an import is of the bulk lane and about that import.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """What a job did not have to pay for, since its texts had vectors already. Money in millionths."""

    tokens: int = 0
    micros: int = 0


NOTHING_SAVED = Saved()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt ended: a stable code and a sentence for people."""

    code: str
    message: str
    calls: int | None = None
    """Of a model, where that is known; 0 of a refusal: it was known beforehand, so that nothing was asked."""


class WorkQueue(Protocol):
    """The queue is the table of jobs. Every write of a worker locks document, then job, and checks the lease's epoch
    and the document's revision: with a lost lease it raises `LeaseLost` and writes nothing.
    """

    async def claim(self, lane: Lane, *, worker: str, quarantined: bool = False) -> Job | None:
        """Take the lane's best due job: highest priority, then the tenant served longest ago, then the oldest.

        The claim is committed with `attempts` raised, so that the count survives a crash. `quarantined` asks for the
        jobs that were rescued from a dead worker, which must run alone. None when nothing is due.
        """
        ...

    async def renew(self, lease: Lease) -> None:
        """Extend the lease; raises `LeaseLost` when the job was cancelled, rescued or superseded meanwhile."""
        ...

    async def enter(self, lease: Lease, stage: Stage) -> None:
        """Report the stage the work is about to enter."""
        ...

    async def describe(self, lease: Lease, *, media_type: str, content_sha256: str) -> None:
        """Record what was downloaded; the job enters `processing` with it."""
        ...

    async def add_chunks(
        self, lease: Lease, chunks: Sequence[Chunk], *, checkpoint: Mapping[str, Any], read: PagesRead | None = None
    ) -> None:
        """Store a batch of chunks, invisible as yet, with the point where a successor goes on; may be repeated.

        With `extracted` in the checkpoint it is the last batch, and the job enters `embedding` with it. `read` is what
        a model took for these chunks; None where there is no model that reads pages.
        """
        ...

    async def charge(self, lease: Lease, read: PagesRead) -> None:
        """Count on the job what a model took to read a page of which nothing came."""
        ...

    async def unembedded(self, lease: Lease, space: EmbeddingSpace, *, limit: int) -> list[tuple[bytes, str]]:
        """Return (text hash, text) of this job's chunks that have no vector in the space, in order, each text once."""
        ...

    async def claim_texts(self, lease: Lease, space: EmbeddingSpace, hashes: Collection[bytes]) -> set[bytes]:
        """Return which of these texts this job is to send to the model now.

        The others have a vector by now, or another job has claimed them. A claim holds as long as the lease it was made
        under: texts of a dead worker, or of an attempt that has ended, can be claimed by anybody.

        Raises:
            LeaseLost: nothing was claimed because the lease is no more.
        """
        ...

    async def add_embeddings(
        self,
        lease: Lease,
        space: EmbeddingSpace,
        vectors: Sequence[tuple[bytes, Sequence[float]]],
        *,
        tokens: int,
        calls: int,
        cost_micros: int = 0,
    ) -> None:
        """Store vectors with what they cost; a text that already has one keeps it."""
        ...

    async def complete(
        self, lease: Lease, space: EmbeddingSpace, *, result: Mapping[str, Any], saved: Saved = NOTHING_SAVED
    ) -> None:
        """Make this job's chunks the visible ones, remove the former, and set `completed`: one transaction."""
        ...

    async def fail(self, lease: Lease, failure: Failure) -> None:
        """End the job: `failed`, its dead letter, and the withdrawal of older chunks, in one transaction."""
        ...

    async def retry(self, lease: Lease, failure: Failure, *, delay_seconds: float) -> None:
        """Put the job back to `pending`, due after the delay; the attempt stays counted."""
        ...

    async def defer(self, lease: Lease, reason: Failure, *, delay_seconds: float) -> bool:
        """Put the job back without charging the attempt; False if this reason has deferred it too long (then `fail`).

        No such bound has what says nothing about this job: waiting for a budget, for a job that reads the same file, or
        for a model that limits calls and was therefore not asked, as long as some jobs are completed.
        """
        ...

    async def release(self, lease: Lease) -> None:
        """Hand the job back at a shutdown: due at once, the attempt not charged, its bell rung again."""
        ...

    async def supersede(self, lease: Lease, reason: Failure) -> None:
        """Cancel the job because its generation is gone; the object is to be decided on anew."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class RescueReport:
    """What became of a batch of jobs whose worker went silent.

    `skipped` are held by somebody else now: another run, or a sign of life. `errors` are jobs that could not be
    treated; they are tried again in the next run. `after` is where the next batch begins, None after the last one.
    `too_many`: the database did not do so many in time; nothing happened, ask for fewer.
    """

    rescued: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0
    after: tuple[datetime, UUID] | None = None
    too_many: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LastDone:
    """When a duty was last done and how far it came. `cursor` is where it stopped, None if it came to its end."""

    seconds_ago: float
    cursor: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueFigures:
    """How much waits: jobs that are pending and, of these, due, per lane; and the age of the oldest unsent row.

    Long queues are estimated, so that looking costs the same however long they are.
    """

    pending: Mapping[str, int]
    due: Mapping[str, int]
    outbox_lag_seconds: float
    oldest_due_seconds: Mapping[str, float] = field(default_factory=dict)
    """Per lane, how long the job that is due longest has waited; a lane without one is left out."""
    stuck: int = 0
    """Jobs whose worker went silent and that were not rescued, and overdue ones in lanes where nobody takes any."""
    dead_letters_open: int = 0


class RecoverStore(Protocol):
    """What the recover service asks. Two runs at once never treat one job twice; batches are bounded by `limit`."""

    async def rescue_expired(self, *, limit: int, after: tuple[datetime, UUID] | None = None) -> RescueReport:
        """Give a batch of jobs with an expired lease back, quarantined and uncharged, or fail those past the bound.

        Batches go in the order of the leases, each from `after`, past those that could not be treated: they never
        stand in the way of others.
        """
        ...

    async def ring_stuck(self, *, limit: int, threshold_seconds: float) -> int:
        """Ring again for due jobs whose last bell is older than the threshold, doubled with each ring, up to 4 times
        the threshold, and that have no unsent bell. Ringing again is no retry.

        A bell stands for "claim the best due job", not for its job. So in each lane no more of them are out at once
        than twice the jobs that its workers took within two thresholds, or a small number if they took few.
        """
        ...

    async def documents(self, bucket: str, *, after: str, limit: int) -> list[Document]:
        """Return the documents of a bucket whose object is believed to be live, by name (UTF-8 bytes), a page."""
        ...

    async def figures(self) -> QueueFigures:
        """Return how much waits now."""
        ...

    async def last_done(self, duty: str) -> LastDone | None:
        """Return when a run last did a duty, None if none did within a day."""
        ...

    async def record_run(self, *, lasted_seconds: float, summary: Mapping[str, Any]) -> None:
        """Keep the summary of a run that began so long ago, by the database's clock."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Who asks. Without an organization the caller is an administrator and sees everything."""

    organization_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobFilter:
    """Which jobs; None means any."""

    status: Status | None = None
    stage: Stage | None = None
    organization_id: str | None = None
    job_type: str | None = None
    error_code: str | None = None
    name_prefix: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Some jobs, newest first, and where the next page starts (None: this is the last)."""

    jobs: Sequence[Job]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Stats:
    """Counts that an operator looks at first."""

    by_status: Mapping[str, int]
    by_stage: Mapping[str, int]
    by_error_code: Mapping[str, int]
    by_lane_pending: Mapping[str, int]
    oldest_due_seconds: float | None
    documents: int
    chunks: int
    dead_letters_open: int
    last_recover_run: Mapping[str, Any] | None = None
    by_deferred_reason: Mapping[str, int] = field(default_factory=dict)
    """Pending jobs that were put off, by the reason."""
    models: Mapping[str, int] = field(default_factory=dict)
    """What all jobs together used and saved: calls, tokens_used, tokens_saved, cost_micros, cost_saved_micros."""


class JobDirectory(Protocol):
    """Jobs as people and programs see them. A scope with an organization sees only that organization's rows: held by
    row-level security, whatever the query says.
    """

    async def get(self, job_id: UUID, scope: Scope) -> Job | None:
        """Return one job, or None (also when it belongs to somebody else)."""
        ...

    async def ledger(self, job_id: UUID, scope: Scope) -> list[JobEvent]:
        """Return every move of a job in order; empty when the job is not visible."""
        ...

    async def page(self, filters: JobFilter, scope: Scope, *, cursor: str | None, limit: int) -> Page:
        """Return a page of jobs, newest first. Raises `InvalidRequest` for a cursor that is not ours."""
        ...

    async def stats(self, scope: Scope) -> Stats:
        """Return counts."""
        ...

    async def retry(self, job_id: UUID, scope: Scope) -> Job:
        """Put a failed or cancelled job back in the queue with fresh attempts, and ring for it.

        A job of a file that is nobody's would run for nobody: it stays as it is and says so, and whoever decides about
        objects is asked to look at this one. If it has an owner by now its job begins again; else its letter is open
        again.

        Raises:
            NotFound: no such job for this caller.
            InvalidRequest: `NOT_RETRYABLE_STATE`, or `SUPERSEDED`: its generation is no longer the live one.
        """
        ...

    async def cancel(self, job_id: UUID, scope: Scope) -> Job:
        """Cancel a pending or running job; its worker notices at the next batch. Cancelling twice is allowed.

        Raises:
            NotFound: no such job for this caller.
            InvalidRequest: `NOT_CANCELLABLE_STATE`: it has ended.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRequest:
    """A question within one organization. `space` says which vectors may be compared."""

    text: str
    vector: Sequence[float]
    space: EmbeddingSpace
    organization_id: str
    limit: int = 10
    name_prefix: str | None = None
    media_types: Sequence[str] = field(default_factory=tuple)


class ChunkIndex(Protocol):
    """The visible chunks."""

    async def search(self, request: SearchRequest) -> list[SearchHit]:
        """Return the best passages, best first: vector and full-text scores fused. Only visible chunks are seen."""
        ...
