"""`RecoverStore` on Postgres: finds what got stuck through partial indexes; one transaction per job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.model.document import Document
from shared.ports.stores import Failure, QueueFigures, RescueReport
from shared.postgres import effects, queries, rows

if TYPE_CHECKING:
    from shared.postgres.pool import Database


class PostgresRecoverStore:
    """See `shared.ports.stores.RecoverStore`."""

    def __init__(
        self,
        database: Database,
        *,
        max_rescues: int = 5,
        withdraw_on_failure: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """`max_rescues`: a job whose worker dies more often than this is failed, since it is probably the cause."""
        self._db = database
        self._sql = queries.load("recover")
        self._max_rescues = max_rescues
        self._withdraw = withdraw_on_failure
        self._clock = clock or SystemClock()

    async def rescue_expired(self, *, limit: int) -> RescueReport:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.expired_leases.all(connection, limit=limit)
        rescued = failed = 0
        for row in found:
            match await self._rescue(row["id"], row["document_id"]):
                case "rescued":
                    rescued += 1
                case "failed":
                    failed += 1
        return RescueReport(rescued=rescued, failed=failed)

    async def _rescue(self, job_id: UUID, document_id: UUID | None) -> str | None:
        async with self._db.transaction() as connection:
            document = None
            if document_id is not None:
                document = await self._sql.lock_document_if_free.first(connection, document_id=document_id)
                if document is None:
                    return None
            job = await self._sql.lock_expired.first(connection, job_id=job_id)
            if job is None:
                return None
            if job["rescue_count"] >= self._max_rescues:
                failure = Failure(
                    code="WORKER_LOST",
                    message=f"The worker died {self._max_rescues + 1} times while it worked on this file, "
                    "the last times on nothing else; look at the file and at the memory of the process service.",
                )
                await effects.fail_job(
                    connection, job=job, document=document, failure=failure, withdraw=self._withdraw, clock=self._clock
                )
                return "failed"
            await self._sql.rescue_job.run(connection, job_id=job_id)
            await effects.ring_for(connection, job, quarantined=True)
            return "rescued"

    async def ring_stuck(self, *, limit: int, threshold_seconds: float) -> int:  # noqa: D102
        async with self._db.transaction() as connection:
            stuck = await self._sql.ring_stuck.all(connection, limit=limit, threshold_seconds=float(threshold_seconds))
            for row in stuck:
                await effects.ring_for(connection, row)
        return len(stuck)

    async def documents(self, bucket: str, *, after: str, limit: int) -> list[Document]:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.list_documents.all(connection, bucket=bucket, after=after, limit=limit)
        return [rows.document(row) for row in found]

    async def figures(self) -> QueueFigures:  # noqa: D102
        async with self._db.get_connection() as connection:
            lanes = await self._sql.queue_figures.all(connection)
            lag: float = await self._sql.outbox_lag.value(connection)
        return QueueFigures(
            pending={row["lane"]: row["pending"] for row in lanes},
            due={row["lane"]: row["due"] for row in lanes},
            outbox_lag_seconds=lag,
        )

    async def reconciliation_is_due(self, *, every_seconds: float) -> bool:  # noqa: D102
        async with self._db.get_connection() as connection:
            done: bool = await self._sql.reconciled_since.value(connection, every_seconds=float(every_seconds))
        return not done

    async def record_run(self, *, started_at: datetime, summary: Mapping[str, Any]) -> None:  # noqa: D102
        async with self._db.get_connection() as connection:
            await self._sql.record_run.run(connection, started_at=started_at, summary=dict(summary))
