"""Removes, when somebody asks, what recover removes by age: ledgers, ended letters and replays, runs, told rows."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from typing import Any

from services.process.slices import Paused, Slice
from shared.clock import Clock
from shared.model.job import Job
from shared.model.orders import AuditCleanup
from shared.ports.pruning import PruningStore
from shared.ports.tasks import TaskStore
from shared.worker.pruning import TRAIL, Keep, prune_by_age

TURN_SECONDS = 20.0
UNIT = "rows"


class CleanUp:
    """The handler of `audit_cleanup` jobs."""

    def __init__(
        self, *, tasks: TaskStore, store: PruningStore, clock: Clock, slice_seconds: float | None = None
    ) -> None:
        """`slice_seconds` is a delivery's time."""
        self._tasks, self._store, self._clock = tasks, store, clock
        self._turn_seconds = min(TURN_SECONDS, slice_seconds or TURN_SECONDS)

    async def __call__(self, job: Job) -> None:
        """Return when nothing so old is left; the result has the counts (less the batch that a killed worker had done).

        Raises:
            Paused: put back, to go on with what is left.
            LeaseLost: cancelled, or another worker's; noticed with each batch.
            Exception: the first of those that kept a kind from being removed; all others were done.
        """
        days = AuditCleanup.of(job.payload).older_than_days
        keep = Keep(
            outbox_days=days, ledger_days=days, deleted_days=days, letters_days=days, replays_days=days, runs_days=days
        )
        counts = Counter(dict.fromkeys(sorted(TRAIL), 0))
        counts.update((job.checkpoint or {}).get("removed", {}))
        turn = Slice(self._clock, self._turn_seconds)
        failed: Exception | None = None
        async with aclosing(prune_by_age(self._store, keep, kinds=TRAIL)) as batches:
            async for batch in batches:
                counts[batch.kind] += batch.rows
                failed = failed or batch.error
                done: dict[str, Any] = {
                    "checkpoint": {"removed": dict(counts)},
                    "done": counts.total(),
                    "total": None,
                    "unit": UNIT,
                }
                if batch.rows and (turn.is_over or job.quarantined):
                    await self._tasks.pause(job.lease, **done)
                    raise Paused
                await self._tasks.save(job.lease, **done)
        if failed is not None:
            raise failed
        await self._tasks.finish(job.lease, result={"removed": dict(counts), "older_than_days": days})
