"""Work about many files, asked for by an administrator: backfill a prefix, remove what is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.route import Call, Route
from services.api.schemas import JobView, NewTaskBody, NoParams
from shared.errors import NotFound
from shared.model.decision import UNKNOWN_ORGANIZATION
from shared.model.job import JobType
from shared.model.orders import AuditCleanup, BulkImport
from shared.ports.stores import JobDirectory
from shared.ports.tasks import NewTask, TaskStore

CLEANUP_DAYS = 90


class TaskEndpoints:
    """Needs the role of an administrator throughout."""

    def __init__(self, tasks: TaskStore, directory: JobDirectory) -> None:
        self._tasks, self._directory = tasks, directory

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="POST",
                path="/api/v1/admin/jobs",
                summary="Ask for work about many files; the same, while it has not ended, is answered with that job",
                params=NoParams,
                body=NewTaskBody,
                answer=JobView,
                handler=self.add,
                admin=True,
            ),
        )

    async def add(self, call: Call[NoParams, NewTaskBody]) -> JobView:
        """Answer with the job."""
        job_id, _ = await self._tasks.add(_task(call.body, user_id=call.caller.user_id))
        job = await self._directory.get(job_id, call.caller.scope)
        if job is None:
            raise NotFound("the job has been removed already.")
        return JobView.of(job)


def _task(asked: NewTaskBody, *, user_id: str | None) -> NewTask:
    if asked.job_type == "audit_cleanup":
        clean_up = AuditCleanup(older_than_days=asked.older_than_days or CLEANUP_DAYS)
        return NewTask(
            job_type=JobType.AUDIT_CLEANUP,
            # No organization's: only administrators see it.
            organization_id=UNKNOWN_ORGANIZATION,
            entity_type="age",
            entity_id="all",
            payload=clean_up.payload(),
            user_id=user_id,
        )
    backfill = BulkImport(prefix=asked.prefix or "", organization_id=asked.organization_id)
    return NewTask(
        job_type=JobType.BULK_IMPORT,
        organization_id=asked.organization_id or UNKNOWN_ORGANIZATION,
        entity_type="prefix",
        entity_id=backfill.prefix,
        payload=backfill.payload(),
        user_id=user_id,
    )
