"""`TaskStore` on Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.errors import LeaseLost
from shared.ids import uuid7
from shared.model.job import Lease
from shared.ports.tasks import NewTask
from shared.postgres import effects, queries

if TYPE_CHECKING:
    from shared.postgres.pool import Database


class PostgresTaskStore:
    """See `shared.ports.tasks.TaskStore`."""

    def __init__(self, database: Database, *, clock: Clock | None = None) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("tasks")
        self._clock = clock or SystemClock()

    async def add(self, task: NewTask) -> tuple[UUID, bool]:  # noqa: D102
        about = {
            "job_type": task.job_type.value,
            "organization_id": task.organization_id,
            "entity_type": task.entity_type,
            "entity_id": task.entity_id,
        }
        async with self._db.transaction() as connection:
            await self._sql.take_turn.value(connection, entity="\n".join(about.values()))
            found: UUID | None = await self._sql.unfinished_task.value(connection, **about)
            if found is not None:
                return found, False
            job_id = uuid7(self._clock)
            await self._sql.insert_task.run(
                connection,
                id=job_id,
                **about,
                user_id=task.user_id,
                payload=dict(task.payload),
                lane=task.lane.value,
                priority=task.priority,
                max_attempts=task.max_attempts,
                trace_parent=task.trace_parent,
            )
            await effects.ring(connection, job_id=job_id, lane=task.lane.value, trace_parent=task.trace_parent)
        return job_id, True

    async def save(  # noqa: D102
        self, lease: Lease, *, checkpoint: Mapping[str, Any], done: int, total: int | None, unit: str
    ) -> None:
        async with self._db.get_connection() as connection:  # one statement: a transaction of its own
            saved = await self._sql.save_task.run(
                connection,
                job_id=lease.job_id,
                epoch=lease.epoch,
                checkpoint=dict(checkpoint),
                done=done,
                total=total,
                unit=unit,
            )
        if not saved:
            raise LeaseLost

    async def pause(  # noqa: D102
        self,
        lease: Lease,
        *,
        checkpoint: Mapping[str, Any],
        done: int,
        total: int | None,
        unit: str,
        delay_seconds: float = 0,
    ) -> None:
        async with self._db.transaction() as connection:
            paused = await self._sql.pause_task.first(
                connection,
                job_id=lease.job_id,
                epoch=lease.epoch,
                checkpoint=dict(checkpoint),
                done=done,
                total=total,
                unit=unit,
                delay_seconds=float(delay_seconds),
            )
            if paused is None:
                raise LeaseLost
            if not delay_seconds:  # else it is rung for when it is due
                await effects.ring_for(connection, paused)

    async def waiting(self, task_id: UUID, *, limit: int) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            count: int = await self._sql.count_waiting.value(connection, import_id=str(task_id), limit=limit)
        return count

    async def outcomes(self, task_id: UUID) -> Mapping[str, int]:  # noqa: D102
        async with self._db.get_connection() as connection:
            found = await self._sql.count_outcomes.all(connection, import_id=str(task_id))
        return {row["status"]: row["jobs"] for row in found}

    async def finish(self, lease: Lease, *, result: Mapping[str, Any]) -> None:  # noqa: D102
        async with self._db.transaction() as connection:
            if not await self._sql.finish_task.run(
                connection, job_id=lease.job_id, epoch=lease.epoch, result=dict(result)
            ):
                raise LeaseLost
            await self._sql.resolve_letters.run(connection, job_id=lease.job_id)
            await queries.load("jobs").forget_claims.run(connection, job_id=lease.job_id)
