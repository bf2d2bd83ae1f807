"""All jobs as operators see them: list, counts, retry and cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.api.route import Call, Route
from services.api.schemas import JobList, JobParams, JobView, ListParams, NoParams, StatsView
from shared.ports.stores import JobDirectory, JobFilter


class AdminJobEndpoints:
    """Needs the role of an administrator throughout."""

    def __init__(self, directory: JobDirectory) -> None:
        self._directory = directory

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="GET",
                path="/api/v1/admin/jobs",
                summary="Jobs, newest first, filtered and in pages",
                params=ListParams,
                answer=JobList,
                handler=self.list,
                admin=True,
            ),
            Route(
                method="GET",
                path="/api/v1/admin/jobs/stats",
                summary="Counts by status, stage, error and lane, and the age of the oldest job that is due",
                params=NoParams,
                answer=StatsView,
                handler=self.stats,
                admin=True,
            ),
            Route(
                method="POST",
                path="/api/v1/admin/jobs/{id}/retry",
                summary="Put a failed or cancelled job back in the queue, with fresh attempts",
                params=JobParams,
                answer=JobView,
                handler=self.retry,
                admin=True,
                errors=(404, 409),
            ),
            Route(
                method="DELETE",
                path="/api/v1/admin/jobs/{id}",
                summary="Cancel a pending or running job; cancelling twice is allowed",
                params=JobParams,
                answer=JobView,
                handler=self.cancel,
                admin=True,
                errors=(404, 409),
            ),
        )

    async def list(self, call: Call[ListParams, None]) -> JobList:
        """Answer with a page."""
        asked = call.params
        filters = JobFilter(
            status=asked.status,
            stage=asked.stage,
            organization_id=asked.organization_id,
            job_type=asked.job_type,
            error_code=asked.error_code,
            name_prefix=asked.prefix,
        )
        page = await self._directory.page(filters, call.caller.scope, cursor=asked.cursor, limit=asked.limit)
        return JobList(jobs=[JobView.of(job) for job in page.jobs], next_cursor=page.next_cursor)

    async def stats(self, call: Call[NoParams, None]) -> StatsView:
        """Answer with counts."""
        return StatsView.of(await self._directory.stats(call.caller.scope))

    async def retry(self, call: Call[JobParams, None]) -> JobView:
        """Answer with the job as it is now."""
        return JobView.of(await self._directory.retry(call.params.id, call.caller.scope))

    async def cancel(self, call: Call[JobParams, None]) -> JobView:
        """Answer with the job as it is now."""
        return JobView.of(await self._directory.cancel(call.params.id, call.caller.scope))
