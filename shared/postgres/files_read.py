"""Which job has a file read by a model. Its passages take the place of what another job had, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, SameFileBeingRead
from shared.model.job import Lease, Status
from shared.ports.files_read import ReadBefore
from shared.postgres import queries

if TYPE_CHECKING:
    from uuid import UUID

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
    elif found["job_id"] == lease.job_id:
        return None
    else:
        if found["is_ours"] and (before := await _of(connection, lease, organization_id, found)) is not None:
            return before
        # Its reader failed, or is gone, or its file was given to others: nobody here waits for their budget.
        await sql.take_over_file.run(connection, **file, job_id=lease.job_id)
    await sql.end_waiting.run(connection, job_id=lease.job_id)
    return None


async def _of(connection: Connection, lease: Lease, organization_id: str, found: Any) -> ReadBefore | None:
    """Return what another job of this organization made of the file; None if it has ended without passages.

    Raises:
        SameFileBeingRead: it has not ended.
        BudgetExhausted: nor has it, and waits for the budget.
    """
    if found["budget_seconds"] is not None:
        raise BudgetExhausted(retry_after_seconds=found["budget_seconds"])  # it is the same budget
    if found["status"] in {Status.PENDING, Status.PROCESSING}:
        raise SameFileBeingRead
    if not found["is_shown"]:
        return None
    copied = await _copied(connection, lease, organization_id, found["job_id"])
    if not copied:
        return None
    return ReadBefore(
        chunks=copied,
        tokens=max(0, found["tokens"]),
        page_micros=found["page_cost_micros"],
        refused_pages=(found["result"] or {}).get("refused_pages", {}),
    )


async def _copied(connection: Connection, lease: Lease, organization_id: str, from_job_id: UUID) -> int:
    """Put the passages of a job in the place of this one's; return how many. If none are left, nothing is changed.

    This one has some if it began to read with another reader: they are of other places, and must not be mixed.
    """
    savepoint = connection.transaction()
    await savepoint.start()
    await queries.load("jobs").drop_chunks_of_job.run(connection, job_id=lease.job_id)
    copied = await queries.load("files_read").copy_chunks.run(
        connection,
        job_id=lease.job_id,
        document_id=lease.document_id,
        organization_id=organization_id,
        from_job_id=from_job_id,
    )
    await (savepoint.commit() if copied else savepoint.rollback())
    return copied
