"""What several stores write inside their own transactions: bells, hints, and the end of a job that failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock
from shared.events.catalogue import DeadLettered, WorkBell
from shared.events.envelope import attributes_of
from shared.ids import uuid7
from shared.model.document import ObjectRef
from shared.model.job import Lane, Stage
from shared.ports.stores import Failure
from shared.postgres import queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection


async def ring(
    connection: Connection, *, job_id: UUID, lane: str, trace_parent: str | None, quarantined: bool = False
) -> None:
    """Add a bell for a lane to the outbox; the job id is only a hint."""
    bell = WorkBell(lane=Lane(lane), job_id=job_id, quarantined=quarantined)
    await queries.load("jobs").add_outbox.run(
        connection,
        topic="work",
        job_id=job_id,
        attributes=attributes_of(bell, trace_parent=trace_parent, lane=lane),
        body=bell.model_dump(mode="json"),
    )


async def ring_all(connection: Connection, jobs: Sequence[Any], *, quarantined: bool | None = None) -> None:
    """Add the bells of many jobs, given their rows, in one go."""
    bells = [
        (
            job,
            WorkBell(
                lane=Lane(job["lane"]),
                job_id=job["id"],
                quarantined=job["quarantined"] if quarantined is None else quarantined,
            ),
        )
        for job in jobs
    ]
    await queries.load("jobs").add_outbox.run_many(
        connection,
        [
            {
                "topic": "work",
                "job_id": job["id"],
                "attributes": attributes_of(bell, trace_parent=job["trace_parent"], lane=job["lane"]),
                "body": bell.model_dump(mode="json"),
            }
            for job, bell in bells
        ],
    )


async def ring_for(connection: Connection, job: Any, *, quarantined: bool | None = None) -> None:
    """Add the bell of a job, given its row."""
    await ring(
        connection,
        job_id=job["id"],
        lane=job["lane"],
        trace_parent=job["trace_parent"],
        quarantined=job["quarantined"] if quarantined is None else quarantined,
    )


def hint(ref: ObjectRef) -> dict[str, Any]:
    """Return an outbox row that says what the bucket would: something about this object may have changed."""
    return {
        "topic": "uploads",
        "job_id": None,
        "attributes": {
            "bucketId": ref.bucket,
            "objectId": ref.name,
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "NONE",
        },
        "body": {},
    }


async def fail_job(
    connection: Connection, *, job: Any, document: Any, failure: Failure, withdraw: bool, clock: Clock
) -> None:
    """End a job that the caller has locked (with its document, if any): state, dead letter and withdrawal together."""
    sql = queries.load("jobs")
    stage = None if job["processing_stage"] == "pending" else job["processing_stage"]
    await sql.fail_job.run(connection, job_id=job["id"], code=failure.code, message=failure.message)
    await sql.drop_chunks_of_job.run(connection, job_id=job["id"])
    if document is not None and document["current_job_id"] == job["id"] and withdraw:
        # An older version that was still allowed to finish would bring back what is withdrawn here.
        await sql.cancel_outrun.run(
            connection,
            document_id=document["id"],
            job_id=job["id"],
            up_to_revision=None,
            message="The live version of the file could not be indexed.",
        )
        await sql.withdraw_chunks.run(connection, document_id=document["id"])
        await sql.drop_other_chunks.run(connection, document_id=document["id"], job_id=job["id"])
    letter_id = await sql.add_dead_letter.value(
        connection,
        id=uuid7(clock),
        identity=f"job:{job['id']}",
        organization_id=job["organization_id"],
        job_id=job["id"],
        code=failure.code,
        message=failure.message,
        stage=stage,
    )
    letter = DeadLettered(
        dead_letter_id=letter_id,
        origin="job",
        job_id=job["id"],
        code=failure.code,
        stage=None if stage is None else Stage(stage),
        occurred_at=clock.now(),
    )
    await sql.add_outbox.run(
        connection,
        topic="dead-letters",
        job_id=job["id"],
        attributes=attributes_of(
            letter, trace_parent=job["trace_parent"], dead_letter_id=str(letter_id), code=failure.code
        ),
        body=letter.model_dump(mode="json"),
    )
