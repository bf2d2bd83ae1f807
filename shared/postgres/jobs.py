"""`WorkQueue` on Postgres: claims with leases, and writes that a worker without its lease cannot make."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pgvector import HalfVector

from shared.clock import Clock, SystemClock
from shared.errors import BudgetExhausted, Conflict, LeaseLost, RateLimitError, SameFileBeingRead
from shared.model.document import Chunk
from shared.model.job import Job, Lane, Lease, Stage
from shared.model.space import EmbeddingSpace
from shared.ports.files_read import ReadBefore
from shared.ports.models import PagesRead
from shared.ports.stores import NOTHING_SAVED, Failure, Saved
from shared.postgres import effects, files_read, queries, rows, spaces

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database


WAKE_BATCH = 100

_UNBOUNDED = {BudgetExhausted.code, SameFileBeingRead.code}
"""No faults that have to end: how long people leave a budget used up is for them to say, and how long the same file is
read, for the bounds of the job that has it read."""


class PostgresWorkQueue:
    """See `shared.ports.stores.WorkQueue`."""

    def __init__(
        self,
        database: Database,
        *,
        lease_seconds: float = 60,
        max_defer_hours: int = 24,
        withdraw_on_failure: bool = True,
        clock: Clock | None = None,
    ) -> None:
        """`withdraw_on_failure`: chunks of an older generation go when the live one fails (`ON_FAILED_OVERWRITE`)."""
        self._db = database
        self._sql = queries.load("jobs")
        self._lease_seconds = lease_seconds
        self._max_defer_hours = max_defer_hours
        self._withdraw = withdraw_on_failure
        self._clock = clock or SystemClock()

    async def claim(self, lane: Lane, *, worker: str, quarantined: bool = False) -> Job | None:  # noqa: D102
        asked = {"lane": lane.value, "quarantined": quarantined, "worker": worker}
        async with self._db.get_connection() as connection:  # one statement: a transaction of its own
            while True:
                row = await self._sql.claim_job.first(connection, **asked, lease_seconds=float(self._lease_seconds))
                if row is not None:
                    return rows.job(row)
                # Most of what became due was woken when its bell was rung; nobody is to go home before the rest is.
                if not await self._sql.wake_parked.run(connection, limit=WAKE_BATCH):
                    return None

    async def renew(self, lease: Lease) -> None:  # noqa: D102
        async with self._db.get_connection() as connection:
            renewed = await self._sql.renew_lease.run(
                connection, job_id=lease.job_id, epoch=lease.epoch, lease_seconds=float(self._lease_seconds)
            )
        if not renewed:
            raise LeaseLost

    async def enter(self, lease: Lease, stage: Stage) -> None:  # noqa: D102
        async with self._db.get_connection() as connection:
            await self._sql.enter_stage.run(connection, job_id=lease.job_id, epoch=lease.epoch, stage=stage.value)

    async def describe(self, lease: Lease, *, media_type: str, content_sha256: str) -> None:  # noqa: D102
        async with self._owned(lease) as (connection, _, _):
            await self._sql.describe_job.run(
                connection, job_id=lease.job_id, media_type=media_type, content_sha256=content_sha256
            )

    async def add_chunks(  # noqa: D102
        self, lease: Lease, chunks: Sequence[Chunk], *, checkpoint: Mapping[str, Any], read: PagesRead | None = None
    ) -> None:
        async with self._owned(lease) as (connection, job, _):
            await self._sql.add_chunks.run(
                connection,
                job_id=lease.job_id,
                document_id=lease.document_id,
                organization_id=job["organization_id"],
                ordinals=[chunk.ordinal for chunk in chunks],
                texts=[chunk.text for chunk in chunks],
                locators=[json.dumps(chunk.locator.to_json()) for chunk in chunks],
                hashes=[chunk.text_hash for chunk in chunks],
            )
            await self._sql.save_checkpoint.run(
                connection,
                job_id=lease.job_id,
                checkpoint=dict(checkpoint),
                extracted=bool(checkpoint.get("extracted")),
                done=max((chunk.ordinal + 1 for chunk in chunks), default=job["progress_done"]),
                unit="chunks found",
            )
            if read is not None:
                await self._count_pages(connection, lease, read)

    async def charge(self, lease: Lease, read: PagesRead) -> None:  # noqa: D102
        async with self._owned(lease) as (connection, _, _):
            await self._count_pages(connection, lease, read)

    async def claim_file(  # noqa: D102
        self, lease: Lease, *, content_sha256: str, reader: str
    ) -> ReadBefore | None:
        async with self._owned(lease) as (connection, job, _):
            before = await files_read.claim(
                connection, lease, job["organization_id"], content_sha256=content_sha256, reader=reader
            )
            if before is not None:
                await self._sql.save_checkpoint.run(
                    connection,
                    job_id=lease.job_id,
                    checkpoint=before.to_checkpoint(),
                    extracted=True,
                    done=before.chunks,
                    unit="chunks found",
                )
            return before

    async def _count_pages(self, connection: Connection, lease: Lease, read: PagesRead) -> None:
        await self._sql.count_pages.run(
            connection,
            job_id=lease.job_id,
            pages=read.pages,
            calls=read.calls,
            tokens=read.tokens,
            cost_micros=read.micros,
        )

    async def unembedded(  # noqa: D102
        self, lease: Lease, space: EmbeddingSpace, *, limit: int
    ) -> list[tuple[bytes, str]]:
        space_id = await self._space_id(space)
        async with self._db.get_connection() as connection:
            found = await self._sql.unembedded.all(connection, job_id=lease.job_id, space_id=space_id, limit=limit)
        return [(row["text_hash"], row["text"]) for row in found]

    async def claim_texts(  # noqa: D102
        self, lease: Lease, space: EmbeddingSpace, hashes: Collection[bytes]
    ) -> set[bytes]:
        space_id = await self._space_id(space)
        async with self._db.get_connection() as connection, spaces.writing():
            claimed = await self._sql.claim_texts.all(
                connection, job_id=lease.job_id, epoch=lease.epoch, space_id=space_id, hashes=list(hashes)
            )
        if not claimed:
            # Who has lost its lease can claim nothing ever again, and must not wait for others' claims to end.
            async with self._owned(lease):
                pass
        return {row["text_hash"] for row in claimed}

    async def add_embeddings(  # noqa: D102
        self,
        lease: Lease,
        space: EmbeddingSpace,
        vectors: Sequence[tuple[bytes, Sequence[float]]],
        *,
        tokens: int,
        calls: int,
        cost_micros: int = 0,
    ) -> None:
        space_id = await self._space_id(space)
        async with self._owned(lease) as (connection, job, _), spaces.writing():
            added = await self._sql.add_embeddings.run(
                connection,
                space_id=space_id,
                organization_id=job["organization_id"],
                hashes=[text_hash for text_hash, _ in vectors],
                vectors=[HalfVector(list(vector)) for _, vector in vectors],
            )
            await self._sql.count_model_use.run(
                connection,
                job_id=lease.job_id,
                tokens=tokens,
                calls=calls,
                cost_micros=cost_micros,
                done=0,
                new_vectors=added,
            )

    async def complete(  # noqa: D102
        self, lease: Lease, space: EmbeddingSpace, *, result: Mapping[str, Any], saved: Saved = NOTHING_SAVED
    ) -> None:
        async with self._owned(lease) as (connection, job, document):
            space_id = await spaces.to_show(connection, space)
            counts = await self._sql.chunk_counts.first(connection, job_id=lease.job_id, space_id=space_id)
            if counts["unembedded"]:
                # The file was given to another organization just now, and a vector was written for the former one.
                raise Conflict("Some of the text has no vector yet; the job goes on with that.", code="INCOMPLETE")
            await self._sql.show_chunks.run(
                connection,
                document_id=lease.document_id,
                job_id=lease.job_id,
                generation=job["generation"],
                size_bytes=job["size_bytes"],
                crc32c=job["crc32c"],
                md5=job["md5"],
                media_type=job["media_type"],
            )
            # One that was superseded and may finish all the same speaks for what was decided before it, not after.
            is_current = document["current_job_id"] == lease.job_id
            up_to_revision = None if is_current else job["document_revision"]
            await self._sql.cancel_outrun.run(
                connection,
                document_id=lease.document_id,
                job_id=lease.job_id,
                up_to_revision=up_to_revision,
                message="A newer version of the file was indexed first.",
            )
            await self._sql.complete_job.run(
                connection,
                job_id=lease.job_id,
                chunks=counts["chunks"],
                result=dict(result),
                tokens_saved=saved.tokens,
                cost_saved_micros=saved.micros,
            )
            await self._sql.drop_other_chunks.run(connection, document_id=lease.document_id, job_id=lease.job_id)
            await self._sql.resolve_dead_letters.run(
                connection, document_id=lease.document_id, up_to_revision=up_to_revision
            )
            # Not with the vectors: a claim that is being made just now may not see those yet, but it sees this.
            await self._sql.forget_claims.run(connection, job_id=lease.job_id)

    async def fail(self, lease: Lease, failure: Failure) -> None:  # noqa: D102
        async with self._owned(lease) as (connection, job, document):
            await effects.fail_job(
                connection, job=job, document=document, failure=failure, withdraw=self._withdraw, clock=self._clock
            )

    async def retry(self, lease: Lease, failure: Failure, *, delay_seconds: float) -> None:  # noqa: D102
        await self._requeue(lease, failure, delay_seconds=delay_seconds)

    async def defer(self, lease: Lease, reason: Failure, *, delay_seconds: float) -> bool:  # noqa: D102
        hours = self._max_defer_hours
        async with self._db.get_connection() as connection:
            # While the queue gets on, a wait for a model that was not asked says nothing about the job. Once nothing
            # does, the model answers nobody, and the job must not wait for ever.
            counts = not (_was_not_asked(reason) and await self._sql.any_completed.value(connection, hours=hours))
            if (
                counts
                and reason.code not in _UNBOUNDED
                and await self._sql.deferred_too_long.value(
                    connection, job_id=lease.job_id, hours=hours, code=reason.code
                )
            ):
                return False
        await self._requeue(
            lease,
            reason,
            delay_seconds=delay_seconds,
            refund=1,
            deferred_reason=reason.code,
            counts=counts,
        )
        return True

    async def release(self, lease: Lease) -> None:  # noqa: D102
        async with self._owned(lease) as (connection, job, _):
            await self._put_back(connection, lease, delay_seconds=0, refund=1, rung=True)
            await effects.ring_for(connection, job)

    async def supersede(self, lease: Lease, reason: Failure) -> None:  # noqa: D102
        async with self._owned(lease) as (connection, _, _):
            await self._sql.cancel_job.run(connection, job_id=lease.job_id, code=reason.code, message=reason.message)
            await self._sql.drop_chunks_of_job.run(connection, job_id=lease.job_id)

    async def _requeue(
        self,
        lease: Lease,
        failure: Failure,
        *,
        delay_seconds: float,
        refund: int = 0,
        deferred_reason: str | None = None,
        counts: bool = False,
    ) -> None:
        async with self._owned(lease) as (connection, _, _):
            await self._put_back(
                connection,
                lease,
                delay_seconds=delay_seconds,
                refund=refund,
                rung=False,
                failure=failure,
                deferred_reason=deferred_reason,
                counts=counts,
            )

    async def _put_back(
        self,
        connection: Connection,
        lease: Lease,
        *,
        delay_seconds: float,
        refund: int,
        rung: bool,
        failure: Failure | None = None,
        deferred_reason: str | None = None,
        counts: bool = False,
    ) -> None:
        await self._sql.requeue_job.run(
            connection,
            job_id=lease.job_id,
            delay_seconds=float(delay_seconds),
            refund=refund,
            rung=rung,
            code=failure.code if failure else None,
            message=failure.message if failure else None,
            deferred_reason=deferred_reason,
            counts=counts,
        )

    @asynccontextmanager
    async def _owned(self, lease: Lease) -> AsyncIterator[tuple[Connection, Any, Any]]:
        """Open a transaction that holds document and job, in this order, and is this lease's to write in."""
        async with self._db.transaction() as connection:
            document = await self._sql.lock_document.first(connection, document_id=lease.document_id)
            job = await self._sql.lock_job.first(connection, job_id=lease.job_id)
            if job is None or job["status"] != "processing" or job["lease_epoch"] != lease.epoch:
                raise LeaseLost
            if document is not None and job["document_revision"] != document["revision"] and not job["may_finish"]:
                raise LeaseLost
            yield connection, job, document

    async def _space_id(self, space: EmbeddingSpace) -> int:
        """Return the row id of a space. Asked anew each time: the space may have been dropped, and made again."""
        async with self._db.get_connection() as connection:
            return await spaces.to_write(connection, space)


def _was_not_asked(reason: Failure) -> bool:
    """Say whether a model is known to limit calls, so that this wait says nothing about the job's own.

    Jobs behind a limit wait their turn for as long as all before them take, while the model answers all the time.
    """
    return reason.code == RateLimitError.code and reason.calls == 0
