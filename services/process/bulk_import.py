"""Backfills a prefix: lists the bucket and decides about each object as ingest does, in the bulk lane.

The guarantee: killed at any moment, it goes on after the last name that is recorded, and deciding about a name twice
changes nothing. Never more than `max_pending` of its jobs have not ended, so that a million objects take the queue no
more than a few hundred. While those are worked on, the import is put back instead of holding a worker: with one slot
for the bulk lane, the jobs it waits for could not run beside it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from services.process.slices import Paused, Slice
from shared.clock import Clock
from shared.errors import AuthenticationError, LeaseLost, RetryableError, code_of
from shared.model.decision import Adopt, Describe, Index
from shared.model.document import ObjectMetadata
from shared.model.job import Job
from shared.model.orders import BulkImport
from shared.ports.storage import ObjectStore
from shared.ports.tasks import TaskStore
from shared.worker.gate import is_outage
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)

BATCH = 50
"""Objects between two checkpoints, and so what a killed worker's successor decides about once more."""

AT_ONCE = 4
"""Objects that are decided about side by side: few, since the others' work needs connections too."""

TURN_SECONDS = 20.0
"""After this the slot is given back, however much there is to do, so that other bulk work gets its turn."""

PAUSE_SECONDS = 3.0
"""How long to leave the worker to the jobs that were made, before looking how many are left."""

TRY_DELAYS_SECONDS = (1.0, 2.0)
FAILURES_IN_A_ROW = 20
NAMED_ERRORS = 20
UNIT = "objects"


@dataclass(slots=True)
class _Course:
    """How far an import is: what its checkpoint holds."""

    after: str = ""
    listed: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    errors: list[dict[str, str]] = field(default_factory=list)
    failed_in_a_row: int = 0

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any] | None) -> _Course:
        kept = checkpoint or {}
        return cls(
            after=kept.get("after", ""),
            listed=kept.get("listed", False),
            counts=Counter(kept.get("counts", {})),
            errors=list(kept.get("errors", [])),
        )

    def checkpoint(self) -> dict[str, Any]:
        return {"after": self.after, "listed": self.listed, "counts": dict(self.counts), "errors": self.errors}


class ImportPrefix:
    """The handler of `bulk_import` jobs."""

    def __init__(
        self,
        *,
        tasks: TaskStore,
        storage: ObjectStore,
        synchroniser: Synchroniser,
        clock: Clock,
        bucket: str,
        max_pending: int,
        slice_seconds: float | None = None,
        batch: int = BATCH,
    ) -> None:
        """`max_pending` bounds the jobs of one import that have not ended; `slice_seconds` is a delivery's time."""
        self._tasks, self._storage, self._synchroniser = tasks, storage, synchroniser
        self._clock, self._bucket, self._max_pending, self._batch = clock, bucket, max_pending, batch
        self._turn_seconds = min(TURN_SECONDS, slice_seconds or TURN_SECONDS)

    async def __call__(self, job: Job) -> None:
        """Return when every object was decided about and each job that this made has ended.

        Raises:
            Paused: put back, to go on from the checkpoint.
            LeaseLost: cancelled, or another worker's; noticed with each batch.
            RetryableError: bucket or database did not answer, three times.
        """
        order, course, turn = (
            BulkImport.of(job.payload),
            _Course.of(job.checkpoint),
            Slice(self._clock, self._turn_seconds),
        )
        objects = self._storage.list(self._bucket, order.prefix, start_after=course.after)
        while not course.listed:
            waiting = await self._tasks.waiting(job.id, limit=self._max_pending)
            room = self._max_pending - waiting
            if room <= 0:
                await self._pause(job, course, waiting, PAUSE_SECONDS)
            batch = await _take(objects, min(self._batch, room))
            made = course.counts["indexed"]
            await self._decide_all(job, order, batch, course)
            waiting += course.counts["indexed"] - made
            course.listed = not batch
            if turn.is_over or job.quarantined:  # it has got somewhere, so nobody has to wait for it to be alone
                await self._pause(job, course, waiting, 0)
            await self._tasks.save(job.lease, checkpoint=course.checkpoint(), **_progress(course, waiting))
        if waiting := await self._tasks.waiting(job.id, limit=self._max_pending):
            await self._pause(job, course, waiting, PAUSE_SECONDS)
        outcomes = await self._tasks.outcomes(job.id)
        result = {"prefix": order.prefix, **course.counts, "jobs": dict(outcomes), "errors": course.errors}
        await self._tasks.save(job.lease, checkpoint=course.checkpoint(), **_progress(course, 0))
        await self._tasks.finish(job.lease, result=result)

    async def _pause(self, job: Job, course: _Course, waiting: int, delay_seconds: float) -> None:
        await self._tasks.pause(
            job.lease, checkpoint=course.checkpoint(), delay_seconds=delay_seconds, **_progress(course, waiting)
        )
        raise Paused

    async def _decide_all(self, job: Job, order: BulkImport, batch: Sequence[ObjectMetadata], course: _Course) -> None:
        for start in range(0, len(batch), AT_ONCE):
            group = batch[start : start + AT_ONCE]
            async with asyncio.TaskGroup() as together:
                deciding = [together.create_task(self._decide(job, order, live)) for live in group]
            for live, done in zip(group, deciding, strict=True):
                said = done.result()
                course.counts["seen"] += 1
                if isinstance(said, str):
                    course.counts[said] += 1
                    course.failed_in_a_row = 0
                else:
                    self._count_failure(live, said, course)
                course.after = live.ref.name

    def _count_failure(self, live: ObjectMetadata, error: Exception, course: _Course) -> None:
        """Go on past one object's own failure; raise what is no object's."""
        if isinstance(error, RetryableError | AuthenticationError | LeaseLost):
            raise error
        course.failed_in_a_row += 1
        if course.failed_in_a_row >= FAILURES_IN_A_ROW:
            raise error
        course.counts["not_decided"] += 1
        if len(course.errors) < NAMED_ERRORS:
            course.errors.append({"name": live.ref.name, "code": code_of(error)})
        _log.warning("import.object_failed", error_code=code_of(error))

    async def _decide(self, job: Job, order: BulkImport, live: ObjectMetadata) -> str | Exception:
        """Return what was done about an object, in a word, or why nothing could be."""
        owner = self._synchroniser.owner_of(live)
        if order.organization_id is not None and (owner is None or owner.organization_id != order.organization_id):
            return "of_others"
        # What was written since has a notification of its own, and somebody who waits: that is no backfill.
        import_id = job.id if _was_there(live, job.created_at) else None
        for delay_seconds in (*TRY_DELAYS_SECONDS, None):
            try:
                decision, committed = await self._synchroniser.bring_in_step(live.ref, import_id=import_id)
            except RetryableError as error:
                if delay_seconds is None or is_outage(error):
                    return error
                await self._clock.sleep(delay_seconds)
                continue
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one object must not hide the others
                return error
            if isinstance(decision, Index):
                return "unchanged" if committed.job_id is None else "indexed" if import_id else "newer"
            return (
                "adopted"
                if isinstance(decision, Adopt)
                else "described"
                if isinstance(decision, Describe)
                else "folders"
                if live.is_folder
                else "unchanged"
            )
        raise AssertionError("the last try returns")


def _was_there(live: ObjectMetadata, asked_at: datetime) -> bool:
    return live.updated_at is None or live.updated_at <= asked_at


def _progress(course: _Course, waiting: int) -> dict[str, Any]:
    seen = course.counts["seen"]
    return {"done": max(0, seen - waiting), "total": seen, "unit": UNIT}


async def _take(objects: AsyncIterator[ObjectMetadata], limit: int) -> list[ObjectMetadata]:
    batch: list[ObjectMetadata] = []
    while len(batch) < limit and (live := await anext(objects, None)) is not None:
        batch.append(live)
    return batch
