"""`RecoverStore` on Postgres: finds what got stuck through partial indexes, and treats it in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg
import structlog

from shared.clock import Clock, SystemClock
from shared.errors import Conflict, code_of
from shared.model.document import Document
from shared.model.job import Lane
from shared.ports.stores import Failure, LastDone, QueueFigures, RescueReport
from shared.postgres import effects, queries, rows

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database

_log = structlog.get_logger(__name__)

BELLS_AT_LEAST = 100
"""Per lane and threshold, however few jobs its workers took: enough to find out that they are idle."""

FIGURES_CAP = 100_000
"""Jobs of a lane are counted up to here; beyond it, figures are what Postgres' statistics say."""

OVERDUE_SECONDS, SILENT_SECONDS = 1800.0, 600.0
"""A job is stuck when it is due for so long and its lane rests, or when its lease ended so long ago: at least two runs
of recover should have helped it by then."""

OLDEST_LOOKED_AT = 5_000

_START = (datetime.min.replace(tzinfo=UTC), UUID(int=0))


class PostgresRecoverStore:
    """See `shared.ports.stores.RecoverStore`."""

    def __init__(
        self,
        database: Database,
        *,
        max_rescues: int = 5,
        withdraw_on_failure: bool = True,
        bells_at_least: int = BELLS_AT_LEAST,
        rescue_statement_seconds: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        """`max_rescues`: a job whose worker dies more often than this while it gets no further is failed, since
        it is probably the cause.
        """
        self._db = database
        self._sql = queries.load("recover")
        self._max_rescues = max_rescues
        self._withdraw = withdraw_on_failure
        self._bells_at_least = bells_at_least
        self._rescue_statement_ms = str(round(rescue_statement_seconds * 1000))
        self._clock = clock or SystemClock()

    async def rescue_expired(  # noqa: D102
        self, *, limit: int, after: tuple[datetime, UUID] | None = None
    ) -> RescueReport:
        after_until, after_id = after or _START
        async with self._db.get_connection() as connection:
            found = await self._sql.expired_leases.all(
                connection, limit=limit, after_until=after_until, after_id=after_id
            )
        if not found:
            return RescueReport()
        lost = [row for row in found if row["stalled_rescues"] >= self._max_rescues]
        saved = [row for row in found if row["stalled_rescues"] < self._max_rescues]
        rescued = failed = errors = 0
        try:
            rescued = await self._rescue(saved)
        except Exception as error:
            if not _is_about_the_rows(error):
                raise
            if len(saved) > 1:
                return RescueReport(after=after, too_many=True)
            errors += _left(saved[0], error)
        for row in lost:
            try:
                failed += await self._fail(row)
            except Exception as error:
                if not _is_about_the_rows(error):
                    raise
                errors += _left(row, error)
        return RescueReport(
            rescued=rescued,
            failed=failed,
            skipped=len(found) - rescued - failed - errors,
            errors=errors,
            after=(found[-1]["lease_until"], found[-1]["id"]) if len(found) == limit else None,
        )

    async def _rescue(self, found: Sequence[Any]) -> int:
        """Put jobs back in one transaction; return how many were free to be put back."""
        if not found:
            return 0
        async with self._db.transaction() as connection:
            # Rather fewer at once than a batch that waits for the time-out of all statements, again in every run.
            await self._sql.bound_statement.run(connection, milliseconds=self._rescue_statement_ms)
            jobs, _ = await self._lock(connection, found)
            # Whoever failed meanwhile too often is left to the next run.
            jobs = [job for job in jobs if job["stalled_rescues"] < self._max_rescues]
            if jobs:
                await self._sql.rescue_jobs.run(connection, job_ids=[job["id"] for job in jobs])
                await effects.ring_all(connection, jobs, quarantined=True)
        return len(jobs)

    async def _fail(self, found: Any) -> int:
        """End a job whose worker died too often, in a transaction of its own; return 1 if it was free."""
        failure = Failure(
            code="WORKER_LOST",
            message=f"The worker died {self._max_rescues + 1} times while it worked on this file and got no further, "
            "the last times on nothing else; look at the file and at the memory of the process service.",
        )
        async with self._db.transaction() as connection:
            jobs, documents = await self._lock(connection, [found])
            for job in jobs:
                await effects.fail_job(
                    connection,
                    job=job,
                    document=documents.get(job["document_id"]),
                    failure=failure,
                    withdraw=self._withdraw,
                    clock=self._clock,
                )
        return len(jobs)

    async def _lock(self, connection: Connection, found: Sequence[Any]) -> tuple[list[Any], dict[UUID, Any]]:
        """Lock documents, then those of their jobs that are still silent; what somebody else holds is left out."""
        asked = [row["document_id"] for row in found if row["document_id"] is not None]
        locked = await self._sql.lock_documents_if_free.all(connection, document_ids=asked)
        documents = {row["id"]: row for row in locked}
        free = [row["id"] for row in found if row["document_id"] is None or row["document_id"] in documents]
        return await self._sql.lock_expired.all(connection, job_ids=free), documents

    async def ring_stuck(self, *, limit: int, threshold_seconds: float) -> int:  # noqa: D102
        rung = 0
        for lane in Lane:
            # A bell that asks for rescued jobs is answered by them first, and no other bell reaches them.
            for quarantined in (True, False):
                rung += await self._ring_stuck(lane, quarantined, limit, float(threshold_seconds))
        return rung

    async def _ring_stuck(self, lane: Lane, quarantined: bool, limit: int, threshold_seconds: float) -> int:
        group = {"lane": lane.value, "quarantined": quarantined, "threshold_seconds": threshold_seconds}
        async with self._db.transaction() as connection:
            room: int = await self._sql.ring_room.value(connection, **group, at_least=self._bells_at_least)
            if room <= 0:
                return 0
            stuck = await self._sql.ring_stuck.all(connection, **group, limit=min(limit, room))
            await effects.ring_all(connection, stuck)
        return len(stuck)

    async def documents(self, bucket: str, *, after: str, limit: int) -> list[Document]:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.list_documents.all(connection, bucket=bucket, after=after, limit=limit)
        return [rows.document(row) for row in found]

    async def figures(self) -> QueueFigures:  # noqa: D102
        pending, due = {}, {}
        async with self._db.get_connection() as connection:
            for lane in Lane:
                row = await self._sql.queue_figures.first(connection, lane=lane.value, cap=FIGURES_CAP)
                pending[lane.value], due[lane.value] = row["pending"], row["due"]
                if row["pending"] == FIGURES_CAP:
                    pending[lane.value] = max(
                        FIGURES_CAP, await self._sql.estimate_pending.expected_rows(connection, lane=lane.value)
                    )
                    due[lane.value] = max(
                        row["due"], await self._sql.estimate_due.expected_rows(connection, lane=lane.value)
                    )
            lag: float = await self._sql.outbox_lag.value(connection)
            oldest = await self._sql.oldest_due.all(connection, overdue_seconds=OVERDUE_SECONDS, limit=OLDEST_LOOKED_AT)
            stuck: int = await self._sql.silent.value(connection, seconds=SILENT_SECONDS, cap=FIGURES_CAP)
            for row in oldest:
                if row["overdue"] and not await self._sql.lane_is_worked.value(
                    connection, lane=row["lane"], seconds=OVERDUE_SECONDS
                ):
                    stuck += row["overdue"]
            letters: int = await self._sql.open_letters.value(connection, cap=FIGURES_CAP)
        return QueueFigures(
            pending=pending,
            due=due,
            outbox_lag_seconds=lag,
            oldest_due_seconds={row["lane"]: row["seconds"] for row in oldest},
            stuck=stuck,
            dead_letters_open=letters,
        )

    async def last_done(self, duty: str) -> LastDone | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.last_done.first(connection, duty=duty)
        return None if row is None else LastDone(seconds_ago=row["seconds_ago"], cursor=row["cursor"])

    async def record_run(self, *, lasted_seconds: float, summary: Mapping[str, Any]) -> None:  # noqa: D102
        async with self._db.get_connection() as connection:
            await self._sql.record_run.run(connection, lasted_seconds=lasted_seconds, summary=dict(summary))


def _left(row: Any, error: Exception) -> int:
    _log.warning("rescue.job_left", job_id=str(row["id"]), error_code=code_of(error), exc_info=error)
    return 1


def _is_about_the_rows(error: Exception) -> bool:
    """Say whether fewer rows, or other ones, may go better: not when the database or the connection is away."""
    if isinstance(error, Conflict) or isinstance(error.__cause__, asyncpg.QueryCanceledError):
        return True
    return isinstance(error, asyncpg.PostgresError)
