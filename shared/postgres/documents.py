"""`DocumentStore` on Postgres: a decision and everything that follows from it, in one transaction, fenced."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.ids import uuid7
from shared.model.decision import UNKNOWN_ORGANIZATION, Adopt, Decision, Describe, Index, Nothing, Owner, Remove
from shared.model.document import Document, ObjectMetadata, ObjectRef
from shared.ports.stores import Committed, Failure
from shared.postgres import effects, queries, rows

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database

MAX_SUPERSESSIONS = 3
"""After so many in a row the running job may finish, so that a file that changes all the time is indexed at all."""

MOVED_AT_ONCE = 2_000
"""So many passages are given to another organization with their vectors: about six seconds of its index's work."""

_NUMBER = re.compile("-?[0-9]{1,9}")
_SUPERSEDED = "A newer version of the file has arrived."
_REMOVED = "The file was removed from the bucket."
_TENANT_UNKNOWN = Failure(
    code="TENANT_UNKNOWN",
    message="The file does not say whose it is; set the metadata organization-id on it, or DEFAULT_ORGANIZATION_ID.",
)


class PostgresDocumentStore:
    """See `shared.ports.stores.DocumentStore`."""

    def __init__(self, database: Database, *, max_attempts: int = 4, clock: Clock | None = None) -> None:
        """`max_attempts` is what new jobs are given: the first attempt and its retries."""
        self._db = database
        self._sql = queries.load("documents")
        self._max_attempts = max_attempts
        self._clock = clock or SystemClock()

    async def read(self, ref: ObjectRef) -> Document | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.read_document.first(connection, bucket=ref.bucket, name=ref.name)
        return None if row is None else rows.document(row)

    async def commit(  # noqa: D102
        self,
        ref: ObjectRef,
        decision: Decision,
        *,
        expected_revision: int,
        trace_parent: str | None = None,
        import_id: UUID | None = None,
    ) -> Committed | None:
        async with self._db.transaction() as connection:
            row = await self._sql.lock_document_by_name.first(connection, bucket=ref.bucket, name=ref.name)
            if (0 if row is None else row["revision"]) != expected_revision:
                return None
            match decision:
                case Nothing():
                    return Committed(document_id=None if row is None else row["id"], job_id=None)
                case Adopt(live, owner) | Describe(live, owner) if await self._is_too_much(
                    connection, row, live, owner
                ):
                    known = None if owner.organization_id == UNKNOWN_ORGANIZATION else owner
                    return await self._index(connection, row, live, known, trace_parent, import_id)
                case Index(live, owner):
                    return await self._index(connection, row, live, owner, trace_parent, import_id)
                case Adopt(live, owner):
                    return await self._adopt(connection, row, live, owner)
                case Describe(live, owner):
                    return await self._describe(connection, row, live, owner)
                case Remove():
                    return await self._remove(connection, row)

    async def _index(
        self,
        connection: Connection,
        row: Any,
        live: ObjectMetadata,
        owner: Owner | None,
        trace_parent: str | None,
        import_id: UUID | None,
    ) -> Committed | None:
        known = owner or Owner(organization_id=UNKNOWN_ORGANIZATION)
        if row is None:
            document_id, revision, cancelled = uuid7(self._clock), 1, 0
            inserted = await self._sql.insert_document.run(
                connection, id=document_id, **_identity(live), **_content(live), **_owner(known)
            )
            if not inserted:
                return None
        else:
            document_id, revision = row["id"], row["revision"] + 1
            # Work that was begun for another organization shows its text to nobody any more.
            stays = row["organization_id"] == known.organization_id
            supersessions, cancelled = await self._supersede(connection, row, may_finish=stays)
            await self._move(connection, row, live, known)
            await self._sql.record_generation.run(
                connection, id=document_id, supersessions=supersessions, **_content(live), **_owner(known)
            )
        job_id = await self._make_job(connection, document_id, revision, live, known, trace_parent, import_id)
        await self._sql.point_to_job.run(connection, id=document_id, job_id=job_id)
        if owner is None and job_id is not None:
            await self._refuse(connection, document_id, job_id)
        return Committed(document_id=document_id, job_id=job_id, cancelled_jobs=cancelled)

    async def _make_job(
        self,
        connection: Connection,
        document_id: UUID,
        revision: int,
        live: ObjectMetadata,
        owner: Owner,
        trace_parent: str | None,
        import_id: UUID | None,
    ) -> UUID | None:
        made = await self._sql.insert_job.first(
            connection,
            id=uuid7(self._clock),
            document_id=document_id,
            file_path=live.ref.uri,
            revision=revision,
            priority=_priority(live),
            max_attempts=self._max_attempts,
            trace_parent=trace_parent,
            import_id=None if import_id is None else str(import_id),
            metadata=live.metadata,
            generation=live.generation,
            metageneration=live.metageneration,
            size_bytes=live.size_bytes,
            crc32c=live.crc32c,
            md5=live.md5,
            **_identity(live),
            **_owner(owner),
        )
        if made is None:
            made = await self._sql.revive_job.first(
                connection, revision=revision, generation=live.generation, **_identity(live), **_owner(owner)
            )
        if made is None:
            return None
        await effects.ring(connection, job_id=made["id"], lane=made["lane"], trace_parent=trace_parent)
        return UUID(str(made["id"]))

    async def _refuse(self, connection: Connection, document_id: UUID, job_id: UUID) -> None:
        """End the job of an object that belongs to nobody: visible, with a code; revived when its owner is known."""
        jobs = queries.load("jobs")
        document = await jobs.lock_document.first(connection, document_id=document_id)
        job = await jobs.lock_job.first(connection, job_id=job_id)
        await effects.fail_job(
            connection, job=job, document=document, failure=_TENANT_UNKNOWN, withdraw=True, clock=self._clock
        )

    async def _adopt(self, connection: Connection, row: Any, live: ObjectMetadata, owner: Owner) -> Committed | None:
        # A job that ends changes what is shown, and not the revision: it may have since the decision.
        if row["live_job_id"] is None or not live.has_content_of(
            size_bytes=row["indexed_size_bytes"], crc32c=row["indexed_crc32c"], md5=row["indexed_md5"]
        ):
            return None
        _, cancelled = await self._supersede(connection, row, may_finish=False)
        await self._move(connection, row, live, owner)
        await self._sql.record_generation.run(
            connection, id=row["id"], supersessions=0, **_content(live), **_owner(owner)
        )
        await self._sql.adopt_generation.run(connection, id=row["id"])
        await queries.load("jobs").resolve_dead_letters.run(connection, document_id=row["id"], up_to_revision=None)
        return Committed(document_id=row["id"], job_id=None, cancelled_jobs=cancelled)

    async def _describe(self, connection: Connection, row: Any, live: ObjectMetadata, owner: Owner) -> Committed:
        active = await self._sql.lock_active_jobs.all(connection, document_id=row["id"])
        outrun = []
        if row["organization_id"] != owner.organization_id:
            # Older work that may still finish is about bytes that were another organization's.
            outrun = [job for job in active if job["generation"] != live.generation]
            active = [job for job in active if job["generation"] == live.generation]
        for job in outrun:
            await self._cancel(connection, job["id"], _SUPERSEDED)
        await self._move(connection, row, live, owner)
        await self._sql.record_generation.run(
            connection, id=row["id"], supersessions=row["supersessions"], **_content(live), **_owner(owner)
        )
        nobodys = owner.organization_id == UNKNOWN_ORGANIZATION
        for job in active:
            if job["generation"] == live.generation:
                await self._sql.keep_job.run(
                    connection,
                    job_id=job["id"],
                    revision=row["revision"] + 1,
                    metageneration=live.metageneration,
                    **_owner(owner),
                )
            if nobodys:
                await self._refuse(connection, row["id"], job["id"])
            elif job["status"] == "pending":
                # A bell that came while this row was locked found nothing to claim.
                await effects.ring_for(connection, job)
        if nobodys:
            # Whoever asked for another look is told that it changed nothing.
            await self._sql.reopen_letters.run(connection, document_id=row["id"])
        return Committed(document_id=row["id"], job_id=None, cancelled_jobs=len(outrun))

    async def _remove(self, connection: Connection, row: Any) -> Committed:
        _, cancelled = await self._supersede(connection, row, may_finish=False, message=_REMOVED)
        await self._sql.remove_document.run(connection, id=row["id"])
        jobs = queries.load("jobs")
        await jobs.drop_chunks_of_document.run(connection, document_id=row["id"])
        await jobs.resolve_dead_letters.run(connection, document_id=row["id"], up_to_revision=None)
        return Committed(document_id=row["id"], job_id=None, cancelled_jobs=cancelled)

    async def _supersede(
        self, connection: Connection, row: Any, *, may_finish: bool = True, message: str = _SUPERSEDED
    ) -> tuple[int, int]:
        """Cancel work in hand; return how many supersessions in a row that makes, and how many jobs were cancelled."""
        active = await self._sql.lock_active_jobs.all(connection, document_id=row["id"])
        enough = may_finish and row["supersessions"] >= MAX_SUPERSESSIONS
        cancelled = 0
        for job in active:
            if enough and job["status"] == "processing":
                await self._sql.let_finish.run(connection, job_id=job["id"])
                continue
            await self._cancel(connection, job["id"], message)
            cancelled += 1
        return (row["supersessions"] + 1 if active else 0), cancelled

    async def _cancel(self, connection: Connection, job_id: UUID, message: str) -> None:
        jobs = queries.load("jobs")
        await jobs.cancel_job.run(connection, job_id=job_id, code="SUPERSEDED", message=message)
        await jobs.drop_chunks_of_job.run(connection, job_id=job_id)

    async def _move(self, connection: Connection, row: Any, live: ObjectMetadata, owner: Owner) -> None:
        """Take the rows of the document along when it belongs to somebody else now.

        What is shown goes along only if it was made from these very bytes, and is not too much. Text of bytes that were
        another organization's is withdrawn, and found by nobody.
        """
        if row["organization_id"] == owner.organization_id:
            return
        goes_along = _shows_bytes_of(row, live) and not await self._is_too_much(connection, row, live, owner)
        if row["live_job_id"] is not None and not goes_along:
            jobs = queries.load("jobs")
            await jobs.withdraw_chunks.run(connection, document_id=row["id"])
            await jobs.drop_chunks_of_job.run(connection, job_id=row["live_job_id"])
        # As for whoever completes a job: what becomes findable for the new owner has a vector in the searched space.
        await queries.load("spaces").hold_active_space.value(connection)
        to = {"document_id": row["id"], "organization_id": owner.organization_id}
        await self._sql.copy_vectors.run(connection, **to)
        await self._sql.move_chunks.run(connection, **to)
        await self._sql.move_events.run(connection, **to)
        await self._sql.move_dead_letters.run(connection, **to)
        await self._sql.move_jobs.run(connection, user_id=owner.user_id, **to)

    async def _is_too_much(self, connection: Connection, row: Any, live: ObjectMetadata, owner: Owner) -> bool:
        """Say whether more passages would go along to another organization than one transaction may take.

        They are withdrawn then, and the file is indexed again for its new owner: that is done in batches.
        """
        if row["organization_id"] == owner.organization_id:
            return False
        counted = await self._sql.count_passages.value(
            connection,
            document_id=row["id"],
            shown_job_id=row["live_job_id"] if _shows_bytes_of(row, live) else None,
            generation=live.generation,
            limit=MOVED_AT_ONCE + 1,
        )
        return bool(counted > MOVED_AT_ONCE)


def _shows_bytes_of(row: Any, live: ObjectMetadata) -> bool:
    """Say whether the visible chunks were made from these very bytes; one generation's bytes never change."""
    return row["indexed_generation"] == live.generation or live.has_content_of(
        size_bytes=row["indexed_size_bytes"], crc32c=row["indexed_crc32c"], md5=row["indexed_md5"]
    )


def _identity(live: ObjectMetadata) -> dict[str, Any]:
    return {"bucket": live.ref.bucket, "name": live.ref.name}


def _content(live: ObjectMetadata) -> dict[str, Any]:
    return {
        "generation": live.generation,
        "metageneration": live.metageneration,
        "size_bytes": live.size_bytes,
        "crc32c": live.crc32c,
        "md5": live.md5,
        "object_metadata": live.metadata,
    }


def _owner(owner: Owner) -> dict[str, Any]:
    return {"organization_id": owner.organization_id, "user_id": owner.user_id}


def _priority(live: ObjectMetadata) -> int:
    """Return the priority in the object's metadata, -100 to 100; what cannot be read is 0."""
    said = live.metadata.get("priority", "")
    return max(-100, min(100, int(said))) if _NUMBER.fullmatch(said) else 0
