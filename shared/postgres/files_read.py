"""Which job has a file read by a model. One statement copies passages, so that all of them come or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import BudgetExhausted, SameFileBeingRead
from shared.model.job import Lease, Status
from shared.ports.files_read import ReadBefore
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection


async def claim(
    connection: Connection, lease: Lease, organization_id: str, *, content_sha256: str, reader: str
) -> ReadBefore | None:
    """See `shared.ports.files_read.FilesRead`; within the caller's transaction, which holds the job."""
    sql = queries.load("files_read")
    file = {"organization_id": organization_id, "content_sha256": content_sha256, "reader": reader}
    found = await sql.reader_of_file.first(connection, **file)
    if found is None:
        if await sql.claim_file.first(connection, **file, job_id=lease.job_id) is None:
            raise SameFileBeingRead  # by somebody who was faster by a moment
        return None
    if found["job_id"] == lease.job_id:
        return None
    if found["deferred_reason"] == BudgetExhausted.code:
        raise BudgetExhausted(retry_after_seconds=found["due_in_seconds"])  # it is the same budget
    if found["status"] in {Status.PENDING, Status.PROCESSING}:
        raise SameFileBeingRead
    if found["is_shown"]:
        copied = await sql.copy_chunks.run(
            connection,
            job_id=lease.job_id,
            document_id=lease.document_id,
            organization_id=organization_id,
            from_job_id=found["job_id"],
        )
        if copied:
            return ReadBefore(
                chunks=copied,
                tokens=max(0, found["tokens"]),
                page_micros=found["page_cost_micros"],
                refused_pages=(found["result"] or {}).get("refused_pages", {}),
            )
    await sql.take_over_file.run(connection, **file, job_id=lease.job_id)
    return None
