"""Which handler does which kind of job. The queue is one; what a job means is decided here and nowhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from shared.errors import UnprocessableContent
from shared.model.job import Job, JobType

JobHandler = Callable[[Job], Awaitable[None]]
"""Does the work of one job type, under the job's lease; returns when the job is `completed`, else raises."""

Registry = Mapping[JobType, JobHandler]


async def handle(registry: Registry, job: Job) -> None:
    """Do the work of a job.

    Raises:
        UnprocessableContent: `UNKNOWN_JOB_TYPE`: this version of the service has no handler for it.
        Exception: whatever the handler raised.
    """
    handler = registry.get(job.job_type)
    if handler is None:
        raise UnprocessableContent(
            f"this service has no handler for {job.job_type.value} jobs.", code="UNKNOWN_JOB_TYPE"
        )
    await handler(job)
