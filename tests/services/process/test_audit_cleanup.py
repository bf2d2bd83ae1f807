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


async def test_a_kind_that_cannot_be_removed_keeps_no_other_and_is_tried_again(road: Road) -> None:
    """The job is put back with the error, and the others are removed; what was refused goes with the next attempt."""
    tasks = PostgresTaskStore(road.database)
    clean_up = CleanUp(tasks=tasks, store=PostgresPruningStore(road.database), clock=SystemClock())
    road.bucket.put("a", b"a")
    await road.notify("a")
    await road.work_off()
    await road.recover()
    await road.relay.flush()
    await road.fetch("create function refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$")
    await road.fetch("create trigger refuse before delete on outbox for each row execute function refuse()")
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
    old_moves = "select count(*) from job_events where published_at < headrace_now() - interval '30 days'"
    moves = await road.value(old_moves)
    road.process = road.worker("w", others={JobType.AUDIT_CLEANUP: clean_up})
    await road.ring(Lane.BULK)
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    assert (job.status, job.attempts) == (Status.PENDING, 1)
    assert await road.value(old_moves) == await road.value("select count(*) from recover_runs") == 0

    await road.fetch("drop trigger refuse on outbox")
    await road.shift_clock(40 * DAY + 3600)
    await road.ring(Lane.BULK)
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    assert job.status is Status.COMPLETED
    assert job.result is not None
    assert job.result["removed"] == {"ledger": moves, "outbox": 1, "letters": 0, "runs": 1, "replays": 0}
