"""Stuck jobs and waiting ones: the first all come back, the second are left alone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from services.recover.budget import Budget
from services.recover.duties import queue
from shared.model.job import Lane
from shared.postgres.pool import open_database
from shared.postgres.recover import BELLS_AT_LEAST, PostgresRecoverStore
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road
from tests.plugins.stack import eventually
from tests.services.recover.rows import flood

THRESHOLD_SECONDS = 300.0


async def rescued(store: PostgresRecoverStore, *, batch_size: int = 50) -> dict[str, int]:
    """Do the duty once, with all the time it wants."""
    return dict(await queue.rescue(store, Budget(ManualClock(datetime.now(UTC)), 60), batch_size=batch_size))


async def statuses(road: Road) -> dict[str, int]:
    """Count jobs by status."""
    rows = await road.fetch("select status, count(*) from document_processing_jobs group by status")
    return {row["status"]: row["count"] for row in rows}


async def test_a_batch_of_stuck_jobs_is_rescued_uncharged(road: Road) -> None:
    """120 jobs of dead workers are back in one run: quarantined, uncharged, each with a bell that says so."""
    await flood(road, 120, status="processing")
    assert await rescued(PostgresRecoverStore(road.database)) == {
        "rescued": 120,
        "failed": 0,
        "skipped": 0,
        "errors": 0,
    }
    rows = await road.fetch("select distinct status, attempts, rescue_count, quarantined from document_processing_jobs")
    assert [tuple(row) for row in rows] == [("pending", 0, 1, True)]
    bells = await road.fetch("select body from outbox where topic = 'work'")
    assert len(bells) == 120
    assert all(bell["body"]["quarantined"] for bell in bells)


async def test_jobs_past_the_bound_fail_one_by_one(road: Road) -> None:
    """Among jobs to rescue, those that were rescued too often end, with a dead letter each."""
    await flood(road, 20, status="processing", stalled_rescues="case when n % 4 = 0 then 5 else 0 end")
    assert await rescued(PostgresRecoverStore(road.database)) == {"rescued": 15, "failed": 5, "skipped": 0, "errors": 0}
    assert await road.value("select count(*) from dead_letters where code = 'WORKER_LOST'") == 5


async def test_a_thousand_that_cannot_be_rescued_do_not_stand_in_the_way(road: Road) -> None:
    """The oldest 1,000 leases belong to documents that somebody holds; the one behind them is rescued in this run."""
    await flood(road, 1001, status="processing", lease_until="now() - interval '1 hour' + n * interval '1 second'")
    async with road.database.transaction() as holding:
        await holding.execute("select from documents where generation <= 1000 for update")
        counts = await asyncio.create_task(rescued(PostgresRecoverStore(road.database)))
    assert counts == {"rescued": 1, "failed": 0, "skipped": 1000, "errors": 0}
    assert await road.value("select generation from document_processing_jobs where status = 'pending'") == 1001
    assert (await rescued(PostgresRecoverStore(road.database)))["rescued"] == 1000


async def test_leases_of_one_moment_are_all_seen(road: Road) -> None:
    """Many leases that end at the same instant are walked through by id: none is missed, none is met twice."""
    await flood(road, 130, status="processing")
    async with road.database.transaction() as holding:
        await holding.execute("select from documents where generation % 2 = 0 for update")
        counts = await asyncio.create_task(rescued(PostgresRecoverStore(road.database), batch_size=7))
    assert counts == {"rescued": 65, "failed": 0, "skipped": 65, "errors": 0}


async def slow_down(road: Road, condition: str, *, seconds: float) -> None:
    """Make the database slow at putting certain jobs back, as a swollen table or a lock would."""
    async with road.database.get_connection() as connection:
        await connection.execute(
            f"""create function slow() returns trigger language plpgsql as
                $$ begin perform pg_sleep({seconds}); return new; end $$;
                create trigger slow before update on document_processing_jobs for each row
                when ({condition}) execute function slow()"""
        )


async def test_a_statement_timeout_makes_batches_smaller(road: Road) -> None:
    """When a batch does not fit into the time of a statement, smaller ones do, and all are rescued."""
    await flood(road, 24, status="processing")
    await slow_down(road, "new.status = 'pending'", seconds=0.05)
    store = PostgresRecoverStore(road.database, rescue_statement_seconds=0.5)
    assert await rescued(store, batch_size=24) == {"rescued": 24, "failed": 0, "skipped": 0, "errors": 0}


async def test_one_job_that_cannot_be_rescued_does_not_stop_the_others(road: Road) -> None:
    """A job that always takes too long is left and counted; the 19 around it are rescued in the same run."""
    await flood(road, 20, status="processing")
    await slow_down(road, "new.status = 'pending' and new.generation = 7", seconds=5)
    store = PostgresRecoverStore(road.database, rescue_statement_seconds=0.3)
    assert await rescued(store, batch_size=20) == {"rescued": 19, "failed": 0, "skipped": 0, "errors": 1}
    assert await road.value("select generation from document_processing_jobs where status = 'processing'") == 7


async def test_a_row_that_the_database_refuses_does_not_stop_the_others(road: Road) -> None:
    """A job whose update is refused is left and counted; the others are rescued."""
    await flood(road, 20, status="processing")
    async with road.database.get_connection() as connection:
        await connection.execute(
            "alter table document_processing_jobs add constraint odd check (generation <> 7 or status <> 'pending')"
        )
    assert (await rescued(PostgresRecoverStore(road.database)))["errors"] == 1
    assert await statuses(road) == {"pending": 19, "processing": 1}


async def test_two_rescues_at_once_take_each_job_once(road: Road, database_url: str) -> None:
    """Overlapping runs share the jobs: each is rescued by exactly one of them."""
    await flood(road, 300, status="processing")
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(open_database(database_url, size=2))
        one, two = await asyncio.gather(
            rescued(PostgresRecoverStore(road.database)), rescued(PostgresRecoverStore(other))
        )
    assert one["rescued"] + two["rescued"] == 300
    assert await road.value("select max(rescue_count) from document_processing_jobs") == 1
    assert await road.value("select count(*) from outbox where topic = 'work'") == 300


async def an_hour(road: Road, waiting: int, *, taken_each_run: int) -> dict[str, Any]:
    """Let recover run each five minutes for an hour, while slow workers take a few jobs; return what it did."""
    await flood(road, waiting, lane="case when n % 2 = 0 then 'bulk' else 'interactive' end", last_rung_at="now()",
                next_attempt_at="now()")  # fmt: skip
    rung, most = 0, 0
    for run in range(1, 13):
        await road.shift_clock(run * 300 + 1)
        for lane in Lane:
            for _ in range(taken_each_run):
                job = await road.queue.claim(lane, worker="w")
                assert job is not None
                for _ in range(2):
                    await road.queue.renew(job.lease)
                await finish(road, job)
        duties = (await road.recover())["duties"]
        assert (duties["rescue"]["rescued"], duties["rescue"]["failed"], duties["ring_due"]["rung"]) == (0, 0, 0)
        rung, most = rung + duties["ring_stuck"]["rung"], max(most, duties["ring_stuck"]["rung"])
    return {"rung": rung, "most": most}


async def finish(road: Road, job: Any) -> None:
    """Complete a job without the work."""
    async with road.database.get_connection() as connection:
        await connection.execute(
            """update document_processing_jobs set status = 'completed', processing_stage = 'completed',
                 lease_owner = null, lease_until = null, completed_at = headrace_now(), updated_at = headrace_now()
               where id = $1""",
            job.id,
        )


async def check_a_healthy_backlog(road: Road, waiting: int) -> None:
    """Assert that an hour of runs leaves a backlog as it is, and how many bells it may cost."""
    for name in ("reconcile", "prune"):
        road.recover._hourly.pop(name, None)
    done = await an_hour(road, waiting, taken_each_run=4)
    # Two lanes, of which neither took so many jobs that it would be allowed more than the least.
    assert done["most"] <= 2 * BELLS_AT_LEAST
    assert done["rung"] <= 12 * 2 * BELLS_AT_LEAST
    assert await statuses(road) == {"pending": waiting - 12 * 8, "completed": 12 * 8}
    rows = await road.fetch(
        "select distinct attempts, rescue_count, quarantined from document_processing_jobs where status = 'pending'"
    )
    assert [tuple(row) for row in rows] == [(0, 0, False)]


async def test_a_healthy_backlog_is_left_alone(road: Road) -> None:
    """2,000 jobs that wait for slow workers: no retry, no rescue, no failure, and few bells."""
    await check_a_healthy_backlog(road, 2000)


@pytest.mark.slow
async def test_a_very_large_healthy_backlog_is_left_alone(road: Road) -> None:
    """The same with 100,000 jobs: the number of bells does not grow with the backlog."""
    await check_a_healthy_backlog(road, 100_000)


async def test_a_retry_is_parked_until_it_is_rung_for(road: Road) -> None:
    """A job whose time has not come stands aside in the queue; the bell that is rung at its time brings it back."""
    await flood(road, 1, next_attempt_at="now() + interval '60 seconds'")
    assert await road.value("select parked from document_processing_jobs")
    await road.shift_clock(61)
    assert await road.outbox.ring_due(limit=10) == 1
    assert not await road.value("select parked from document_processing_jobs")


async def test_a_lane_that_answers_is_rung_more(road: Road) -> None:
    """Twice what workers took lately may be rung: a backlog whose bells were all lost is taken up fast."""
    await flood(road, 1500)
    store = PostgresRecoverStore(road.database)
    for _ in range(200):
        job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
        await finish(road, job)
    rung = 0
    while more := await store.ring_stuck(limit=50, threshold_seconds=THRESHOLD_SECONDS):
        rung += more
    assert rung == 400


async def test_every_lane_and_quarantine_has_bells_of_its_own(road: Road) -> None:
    """A bell is answered in its lane, and only one that says so reaches rescued jobs: each group gets its share."""
    await flood(
        road,
        1000,
        lane="case when n % 2 = 0 then 'bulk' else 'interactive' end",
        quarantined="(n % 4) in (0, 1)",
    )
    store = PostgresRecoverStore(road.database, bells_at_least=30)
    async with road.database.get_connection() as connection:
        while await store.ring_stuck(limit=7, threshold_seconds=THRESHOLD_SECONDS):
            await connection.execute("update outbox set published_at = now() where published_at is null")
    rows = await road.fetch("select body ->> 'lane', body ->> 'quarantined', count(*) from outbox group by 1, 2")
    assert sorted(tuple(row) for row in rows) == [
        ("bulk", "false", 30), ("bulk", "true", 30), ("interactive", "false", 30), ("interactive", "true", 30),
    ]  # fmt: skip


async def test_a_lost_bell_is_made_good_however_long_the_queue(road: Road) -> None:
    """With all bells of 500 jobs lost, and each new one answered by a job, the queue is empty after a few runs."""
    came = "now() - interval '2 hours' + n * interval '1 second'"
    await flood(road, 500, created_at=came, next_attempt_at=came, last_rung_at=came)
    store = PostgresRecoverStore(road.database, bells_at_least=20)
    runs = 0
    while await road.value("select count(*) from document_processing_jobs where status = 'pending'"):
        runs += 1
        await road.shift_clock(runs * 300 + 1)
        while await store.ring_stuck(limit=50, threshold_seconds=THRESHOLD_SECONDS):
            pass
        bells = await road.fetch("update outbox set published_at = now() where published_at is null returning id")
        assert bells
        for _ in bells:
            if (job := await road.queue.claim(Lane.INTERACTIVE, worker="w")) is not None:
                await finish(road, job)
    assert runs <= 6  # 20, 40, 80, 160, 320


async def test_a_broker_that_is_away_gets_no_more_bells(road: Road) -> None:
    """While bells wait in the outbox, ringing again adds nothing to them."""
    await flood(road, 300)
    async with road.database.get_connection() as connection:
        await connection.execute(
            """insert into outbox (topic, job_id, attributes)
               select 'work', gen_random_uuid(), '{"lane": "interactive"}' from generate_series(1, 100)"""
        )
    store = PostgresRecoverStore(road.database)
    assert await store.ring_stuck(limit=50, threshold_seconds=THRESHOLD_SECONDS) == 0


async def test_a_connection_that_is_cut_ends_the_rescue_by_name(road: Road, database_url: str) -> None:
    """A lost database is no fault of the rows: the duty ends with its code instead of trying them one by one."""
    await flood(road, 100, status="processing")
    admin = await asyncpg.connect(database_url)
    try:
        await slow_down(road, "new.status = 'pending'", seconds=0.02)
        run = asyncio.create_task(road.recover())
        await eventually(lambda: admin.fetchval("select count(*) from pg_stat_activity where wait_event = 'PgSleep'"))
        await admin.execute(
            """select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()"""
        )
        summary = await run
    finally:
        await admin.close()
    assert summary["errors"].get("rescue") == "DATABASE_UNAVAILABLE"
