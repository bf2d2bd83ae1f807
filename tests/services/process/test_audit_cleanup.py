"""Removing by age when somebody asks: what is kept to look back at goes, what is searched or waited for stays."""

from __future__ import annotations

from services.process.audit_cleanup import CleanUp
from shared.clock import SystemClock
from shared.model.job import JobType, Lane, Status
from shared.model.orders import AuditCleanup
from shared.ports.stores import Failure, Scope
from shared.ports.tasks import NewTask
from shared.postgres.prune import PostgresPruningStore
from shared.postgres.tasks import PostgresTaskStore
from tests.plugins.road import Road

DAY = 86_400


async def test_the_trail_goes_by_age(road: Road) -> None:
    """Old moves, told rows, runs and ended letters go and are counted; open letters, jobs and passages stay."""
    tasks = PostgresTaskStore(road.database)
    clean_up = CleanUp(tasks=tasks, store=PostgresPruningStore(road.database), clock=SystemClock())
    for name in ("a", "open"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    first = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert first is not None
    await road.queue.fail(first.lease, Failure(code="BOOM", message="It went wrong."))
    await road.directory.retry(first.id, Scope())
    await road.queue.claim(Lane.INTERACTIVE, worker="w")
    second = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert second is not None
    await road.queue.fail(second.lease, Failure(code="BOOM", message="It went wrong."))
    async with road.database.get_connection() as connection:
        await connection.execute(
            "update dead_letters set state = 'resolved', resolved_at = headrace_now() where job_id = $1", first.id
        )
    await road.recover()
    await road.relay.flush()
    moves = await road.value("select count(*) from job_events where published_at is not null")
    told = await road.value("select count(*) from outbox where published_at is not null")

    await road.shift_clock(40 * DAY)
    job_id, _ = await tasks.add(
        NewTask(
            job_type=JobType.AUDIT_CLEANUP,
            organization_id="?",
            entity_type="age",
            entity_id="all",
            payload=AuditCleanup(older_than_days=30).payload(),
        )
    )
    road.process = road.worker("w", others={JobType.AUDIT_CLEANUP: clean_up})
    assert (await road.ring(Lane.BULK)).name == "done"
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    assert job.status is Status.COMPLETED
    assert job.result == {
        "older_than_days": 30,
        "removed": {"ledger": moves, "outbox": told, "letters": 1, "runs": 1, "replays": 0},
    }
    assert await road.value("select array_agg(job_id) from dead_letters") == [second.id]
    assert await road.value("select count(*) from document_processing_jobs") == 3
