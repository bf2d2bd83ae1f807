"""`JobDirectory` on Postgres: reading under row-level security, and the two things a person may do to a job."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.errors import InvalidRequest, NotFound
from shared.model.decision import UNKNOWN_ORGANIZATION
from shared.model.document import ObjectRef
from shared.model.job import TERMINAL, Job, JobEvent, JobType, Stage, Status
from shared.ports.stores import JobFilter, Page, Scope, Stats
from shared.postgres import effects, queries, rows

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database


_ASKED = (
    "It is being looked at anew whose the file is. If this job stays failed, it is nobody's: set the metadata "
    "organization-id on it, or DEFAULT_ORGANIZATION_ID."
)
_USED = ("calls", "tokens_used", "tokens_saved", "cost_micros", "cost_saved_micros")


class PostgresJobDirectory:
    """See `shared.ports.stores.JobDirectory`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("directory")
        self._jobs = queries.load("jobs")

    async def get(self, job_id: UUID, scope: Scope) -> Job | None:  # noqa: D102
        async with self._db.transaction(scope) as connection:
            row = await self._sql.get_job.first(connection, job_id=job_id)
        return None if row is None else rows.job(row)

    async def ledger(self, job_id: UUID, scope: Scope) -> list[JobEvent]:  # noqa: D102
        async with self._db.transaction(scope) as connection:
            found = await self._sql.ledger.all(connection, job_id=job_id)
        return [
            JobEvent(
                job_id=row["job_id"],
                seq=row["seq"],
                attempt=row["attempt"],
                status=Status(row["status"]),
                stage=Stage(row["stage"]),
                occurred_at=row["occurred_at"],
                duration_ms=row["duration_ms"],
                detail=row["detail"],
            )
            for row in found
        ]

    async def page(self, filters: JobFilter, scope: Scope, *, cursor: str | None, limit: int) -> Page:  # noqa: D102
        created_at, job_id = (None, None) if cursor is None else _read_cursor(cursor)
        async with self._db.transaction(scope) as connection:
            found = await self._sql.page_jobs.all(
                connection,
                status=filters.status,
                stage=filters.stage,
                organization_id=filters.organization_id,
                job_type=filters.job_type,
                error_code=filters.error_code,
                name_prefix=filters.name_prefix,
                before_created_at=created_at,
                before_id=job_id,
                limit=limit + 1,
            )
        jobs = [rows.job(row) for row in found[:limit]]
        return Page(jobs=jobs, next_cursor=_cursor(jobs[-1]) if len(found) > limit else None)

    async def stats(self, scope: Scope) -> Stats:  # noqa: D102
        async with self._db.transaction(scope) as connection:
            counts = await self._sql.count_jobs.all(connection)
            rest = await self._sql.count_rest.first(connection)
            last_run = None if scope.organization_id else await self._sql.last_run.value(connection)
        return Stats(
            by_status=_sum(counts, "status"),
            by_stage=_sum(counts, "processing_stage"),
            by_error_code=_sum(counts, "error_code"),
            by_lane_pending=_sum([row for row in counts if row["status"] == "pending"], "lane"),
            oldest_due_seconds=rest["oldest_due_seconds"],
            documents=rest["documents"],
            chunks=rest["chunks"],
            dead_letters_open=rest["dead_letters_open"],
            last_recover_run=last_run,
            by_deferred_reason=_sum(counts, "deferred_reason"),
            models={name: sum(row[name] for row in counts) for name in _USED},
        )

    async def retry(self, job_id: UUID, scope: Scope) -> Job:  # noqa: D102
        async with self._db.transaction() as connection:
            job, document = await self._lock(connection, job_id, scope)
            if job["job_type"] == JobType.HISTORY:
                raise InvalidRequest(
                    "this was taken from an older table; what became of its file is another job.",
                    code="NOT_RETRYABLE_STATE",
                )
            if job["status"] not in {"failed", "cancelled"}:
                raise InvalidRequest(
                    f"only failed or cancelled jobs are retried; this one is {job['status']}.",
                    code="NOT_RETRYABLE_STATE",
                )
            if document is not None and document["generation"] != job["generation"]:
                raise InvalidRequest("the file has changed or is gone; its newer job counts.", code="SUPERSEDED")
            if document is not None and document["organization_id"] == UNKNOWN_ORGANIZATION:
                return rows.job(await self._ask_whose(connection, job, document))
            row = await self._sql.restart_job.first(
                connection, job_id=job_id, revision=None if document is None else document["revision"]
            )
            if document is not None:
                await queries.load("documents").point_to_job.run(connection, id=document["id"], job_id=job_id)
            await self._sql.replaying_letters.run(connection, job_id=job_id)
            await effects.ring_for(connection, row)
        return rows.job(row)

    async def _ask_whose(self, connection: Connection, job: Any, document: Any) -> Any:
        """Have the owner of a file decided on anew, by whoever decides: as nobody's, its job would run for nobody.

        The letter waits for what comes of it: the job begins again when somebody owns the file; else it is open again.
        """
        await self._sql.forget_description.run(connection, document_id=document["id"])
        await self._jobs.add_outbox.run(connection, **effects.hint(ObjectRef(document["bucket"], document["name"])))
        await self._sql.replaying_letters.run(connection, job_id=job["id"])
        return await self._sql.say_asked.first(connection, job_id=job["id"], message=_ASKED)

    async def cancel(self, job_id: UUID, scope: Scope) -> Job:  # noqa: D102
        async with self._db.transaction() as connection:
            job, _ = await self._lock(connection, job_id, scope)
            if Status(job["status"]) in TERMINAL - {Status.CANCELLED}:
                raise InvalidRequest(f"the job has ended: {job['status']}.", code="NOT_CANCELLABLE_STATE")
            if job["status"] != "cancelled":
                await self._jobs.cancel_job.run(
                    connection, job_id=job_id, code="CANCELLED", message="A person cancelled this job."
                )
                await self._jobs.drop_chunks_of_job.run(connection, job_id=job_id)
            row = await self._sql.get_job.first(connection, job_id=job_id)
        return rows.job(row)

    async def _lock(self, connection: Connection, job_id: UUID, scope: Scope) -> tuple[Any, Any]:
        """Lock document, then job; another organization's job does not exist for this caller."""
        seen = await self._sql.get_job.first(connection, job_id=job_id)
        if seen is None or scope.organization_id not in {None, seen["organization_id"]}:
            raise NotFound("there is no such job.")
        document = None
        if seen["document_id"] is not None:
            document = await self._jobs.lock_document.first(connection, document_id=seen["document_id"])
        return await self._jobs.lock_job.first(connection, job_id=job_id), document


def _sum(counts: list[Any], column: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for row in counts:
        if row[column] is not None:
            totals[row[column]] = totals.get(row[column], 0) + row["jobs"]
    return totals


def _cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()}|{job.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, UUID]:
    try:
        created_at, _, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(created_at).astimezone(UTC), UUID(job_id)
    except (ValueError, OverflowError):  # ValueError covers what is no base64, no UTF-8, no date, no id
        raise InvalidRequest("this cursor was not made by this API; start from the first page.") from None
