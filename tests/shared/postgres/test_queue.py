"""The queue in the database: who is next, who may write, and what a failure leaves behind."""

import asyncio
from dataclasses import replace
from uuid import UUID

import asyncpg
import pytest

from shared.errors import LeaseLost
from shared.ids import text_hash, uuid7
from shared.model.document import Chunk
from shared.model.job import Job, Lane, Stage
from shared.model.locator import Locator, LocatorKind
from shared.ports.models import PagesRead
from shared.ports.stores import Failure, Scope
from tests.plugins.road import Road

BOOM = Failure(code="BOOM", message="It went wrong.")


async def enqueue(road: Road, count: int, organization: str, *, priority: int = 0, lane: str | None = None) -> None:
    """Put jobs in the queue the way ingest does, many at once."""
    for number in range(count):
        road.bucket.put(
            f"{organization}/{priority}/{number}.txt",
            b"text",
            organization_id=organization,
            priority=str(priority),
        )
        await road.notify(f"{organization}/{priority}/{number}.txt")
    if lane is not None:
        async with road.database.get_connection() as connection:
            await connection.execute(
                "update document_processing_jobs set lane = $2 where organization_id = $1", organization, lane
            )


async def flood(road: Road, count: int, organization: str) -> None:
    """Put very many jobs in the queue, by SQL: each with a document of its own."""
    async with road.database.get_connection() as connection:
        await connection.execute(
            """with made as (
                 insert into documents (id, bucket, name, organization_id, generation)
                 select gen_random_uuid(), 'uploads', $1 || n, $1, n from generate_series(1, $2::int) n
                 returning id, bucket, name, organization_id, generation)
               insert into document_processing_jobs
                 (id, document_id, bucket, name, generation, organization_id, document_revision, created_at)
               select gen_random_uuid(), id, bucket, name, generation, organization_id, 1,
                      now() - interval '1 hour' from made""",
            organization,
            count,
        )


async def claim(road: Road, lane: Lane = Lane.INTERACTIVE, **options: bool) -> Job | None:
    """Claim as a worker does."""
    return await road.queue.claim(lane, worker="w", **options)


async def claimed(road: Road, content: bytes = b"text") -> Job:
    """Return a job that this test holds."""
    road.bucket.put("a.txt", content)
    await road.notify("a.txt")
    job = await claim(road)
    assert job is not None
    return job


async def test_one_of_higher_priority_is_claimed_next(road: Road) -> None:
    """With 200 jobs waiting, a later one of higher priority is the next to be claimed."""
    await flood(road, 200, "acme")
    await enqueue(road, 1, "acme", priority=5, lane="interactive")
    job = await claim(road)
    assert job is not None
    assert job.priority == 5


async def test_a_tenant_with_five_thousand_jobs_does_not_hold_up_a_tenant_with_one(road: Road) -> None:
    """The small tenant's job is served within two claims, although it is the youngest of all."""
    await flood(road, 5000, "large")
    first = await claim(road)
    assert first is not None
    await flood(road, 1, "small")
    following = [await claim(road) for _ in range(2)]
    assert "small" in {job.organization_id for job in following if job is not None}


async def test_tenants_take_turns(road: Road) -> None:
    """Of three waiting tenants, each is served once before any is served twice."""
    for organization in ("one", "two", "three"):
        await flood(road, 30, organization)
    served = [job.organization_id for job in [await claim(road) for _ in range(9)] if job is not None]
    assert [sorted(served[start : start + 3]) for start in (0, 3, 6)] == [["one", "three", "two"]] * 3


async def test_jobs_beyond_fifty_waiting_go_to_the_bulk_lane(road: Road) -> None:
    """A tenant that floods the interactive lane is moved aside, and its first fifty are not."""
    await enqueue(road, 53, "acme")
    lanes = await road.fetch("select lane, count(*) from document_processing_jobs group by lane order by lane")
    assert [tuple(row) for row in lanes] == [("bulk", 3), ("interactive", 50)]


async def test_concurrent_claims_never_take_one_job_twice(road: Road) -> None:
    """Forty claims at once on thirty jobs of three tenants take each job exactly once."""
    for organization in ("one", "two", "three"):
        await flood(road, 10, organization)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(claim(road)) for _ in range(40)]
    taken: list[UUID] = [job.id for task in tasks if (job := task.result()) is not None]
    while (job := await claim(road)) is not None:  # a claim that met locked rows only may have come back empty
        taken.append(job.id)
    assert len(taken) == len(set(taken)) == 30


async def test_a_claim_counts_before_the_work_begins(road: Road) -> None:
    """`attempts` is raised in the claim's own transaction, so that a crash cannot lose the count."""
    job = await claimed(road)
    assert job.attempts == 1
    assert await road.value("select attempts from document_processing_jobs") == 1


async def test_retry_count_is_counted_and_never_stays_zero(road: Road) -> None:
    """Old fault: retry_count stayed 0 while a job was retried for ever. Here it counts, and the fourth failure ends."""
    job = await claimed(road)
    delays = []
    for attempt in range(1, 5):
        assert job.attempts == attempt
        assert job.retry_count == attempt - 1
        road.embedder.errors = [RuntimeError("the model fell over")]
        outcome = await road.process._failed(job, road.embedder.errors.pop())
        row = (await road.fetch("select *, next_attempt_at - updated_at as delay from document_processing_jobs"))[0]
        if attempt == 4:
            assert outcome.name == "failure_recorded"
            assert (row["status"], row["error_code"], row["retry_count"]) == ("failed", "INTERNAL", 3)
            break
        assert outcome.name == "retrying"
        assert row["retry_count"] == attempt - 1
        delays.append(round(row["delay"].total_seconds()))
        await road.shift_clock(sum(delays) + 1)
        again = await claim(road)
        assert again is not None
        job = again
    assert delays == [60, 300, 900]


async def test_a_retry_is_rung_when_it_is_due_and_once(road: Road) -> None:
    """The relay rings for a retry when its time has come, not before, and not twice."""
    job = await claimed(road)
    await road.queue.retry(job.lease, BOOM, delay_seconds=60)
    assert await road.outbox.ring_due(limit=10) == 0
    assert await claim(road) is None
    await road.shift_clock(61)
    assert await road.outbox.ring_due(limit=10) == 1
    assert await road.outbox.ring_due(limit=10) == 0
    assert await claim(road) is not None


async def test_where_no_job_gets_on_nobody_waits_for_ever(road: Road) -> None:
    """A model that answers nobody for days ends also those whom it was not asked for."""
    not_asked = Failure(code="RATE_LIMITED", message="wait", calls=0)
    for hours, stays in ((0, True), (23, True), (25, False)):
        await road.shift_clock(hours * 3600)
        job = await claim(road) if hours else await claimed(road)
        assert job is not None
        assert await road.queue.defer(job.lease, not_asked, delay_seconds=30) is stays, hours


async def test_the_bound_on_waiting_is_that_of_one_reason(road: Road) -> None:
    """Who has waited long for one thing, and may, is not ended by a moment's trouble with another."""
    reading = Failure(code="SAME_FILE_BEING_READ", message="wait")
    away = Failure(code="DATABASE_UNAVAILABLE", message="away")
    waits = ((0, reading, True), (25, reading, True), (26, away, True), (27, away, True), (51, away, False))
    for hours, reason, stays in waits:
        await road.shift_clock(hours * 3600)
        job = await claim(road) if hours else await claimed(road)
        assert job is not None
        assert await road.queue.defer(job.lease, reason, delay_seconds=30) is stays, hours


async def test_a_deferral_costs_no_attempt_and_is_bounded(road: Road) -> None:
    """A rate-limited job waits uncharged, says why, and ends after the bound on waiting."""
    job = await claimed(road)
    assert await road.queue.defer(job.lease, Failure(code="RATE_LIMITED", message="wait"), delay_seconds=30)
    row = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (row["status"], row["attempts"], row["deferred_reason"]) == ("pending", 0, "RATE_LIMITED")
    await road.shift_clock(25 * 3600)
    job = await claim(road)
    assert job is not None
    assert not await road.queue.defer(job.lease, Failure(code="RATE_LIMITED", message="wait"), delay_seconds=30)


async def test_waiting_for_a_model_that_was_not_asked_has_no_bound(road: Road) -> None:
    """Others hold its limit, for days: that neither begins nor ends a job's own patience, which calls alone use up."""
    refused = Failure(code="RATE_LIMITED", message="wait", calls=1)
    for hours, reason, stays in (
        (0, replace(refused, calls=0), True),
        (25, replace(refused, calls=0), True),
        (26, refused, True),
        (51, replace(refused, calls=0), True),
        (52, refused, False),
    ):
        await road.shift_clock(hours * 3600)
        job = await claim(road) if hours else await claimed(road)
        assert job is not None
        road.bucket.put(f"{hours}.txt", b"of somebody who was answered")
        await road.notify(f"{hours}.txt")
        await road.work_off()
        assert await road.queue.defer(job.lease, reason, delay_seconds=30) is stays, hours


async def test_a_shutdown_hands_the_job_back_uncharged(road: Road) -> None:
    """However often a healthy job is handed back, its attempts stay where they were and it is rung again."""
    job = await claimed(road)
    for _ in range(20):
        await road.queue.release(job.lease)
        again = await claim(road)
        assert again is not None
        assert again.attempts == 1
        job = again
    assert await road.value("select count(*) from outbox where topic = 'work'") == 21


@pytest.mark.parametrize(
    "write", ["chunks", "embeddings", "charge", "complete", "fail", "retry", "defer", "release", "renew"]
)
async def test_a_worker_that_lost_its_lease_can_write_nothing(road: Road, write: str) -> None:
    """After a rescue and a new claim, every write of the first owner is refused and changes nothing."""
    job = await claimed(road)
    await road.shift_clock(120)
    await road.recover()
    assert await claim(road, quarantined=True) is not None
    before = await road.fetch("select * from document_processing_jobs")
    chunk = Chunk(ordinal=0, text="x", locator=Locator(kind=LocatorKind.PAGE, page=1), text_hash=text_hash("x"))
    space = road.embedder.space
    attempts = {
        "chunks": lambda: road.queue.add_chunks(job.lease, [chunk], checkpoint={}),
        "embeddings": lambda: road.queue.add_embeddings(
            job.lease, space, [(text_hash("x"), [0.5] * 8)], tokens=1, calls=1
        ),
        "charge": lambda: road.queue.charge(job.lease, PagesRead(pages=1, calls=1, tokens=9, micros=9)),
        "complete": lambda: road.queue.complete(job.lease, space, result={}),
        "fail": lambda: road.queue.fail(job.lease, BOOM),
        "retry": lambda: road.queue.retry(job.lease, BOOM, delay_seconds=1),
        "defer": lambda: road.queue.defer(job.lease, BOOM, delay_seconds=1),
        "release": lambda: road.queue.release(job.lease),
        "renew": lambda: road.queue.renew(job.lease),
    }
    with pytest.raises(LeaseLost):
        await attempts[write]()
    await road.queue.enter(job.lease, Stage.STORING)
    assert await road.fetch("select * from document_processing_jobs") == before
    assert await road.value("select count(*) from chunks") == 0
    assert await road.value("select count(*) from embeddings") == 0


async def test_a_decision_fences_off_the_running_job(road: Road) -> None:
    """A job whose document was decided on again can write nothing, although its lease is young."""
    job = await claimed(road)
    road.bucket.remove("a.txt")
    await road.notify("a.txt", "OBJECT_DELETE")
    with pytest.raises(LeaseLost):
        await road.queue.complete(job.lease, road.embedder.space, result={})
    assert await road.in_step()


async def test_two_recover_runs_at_once_rescue_each_job_once(road: Road) -> None:
    """Overlapping runs share the expired leases; every job is rescued by exactly one of them, uncharged."""
    await enqueue(road, 30, "acme")
    for _ in range(30):
        assert await claim(road) is not None
    await road.shift_clock(120)
    one, two = await asyncio.gather(road.recover(), road.recover())
    assert one["duties"]["rescue"]["rescued"] + two["duties"]["rescue"]["rescued"] == 30
    rows = await road.fetch("select distinct rescue_count, attempts, quarantined, status from document_processing_jobs")
    assert [tuple(row) for row in rows] == [(1, 0, True, "pending")]


async def test_rescues_are_bounded(road: Road) -> None:
    """A job whose worker dies every time ends failed, with a code, after the bounded number of rescues."""
    await claimed(road)
    for rescue in range(1, 6):
        await road.shift_clock(120 * rescue)
        await road.recover()
        assert await claim(road, quarantined=True) is not None
    await road.shift_clock(120 * 6)
    await road.recover()
    row = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (row["status"], row["error_code"], row["rescue_count"]) == ("failed", "WORKER_LOST", 5)
    assert await road.value("select count(*) from dead_letters where state = 'open'") == 1


async def test_a_stuck_job_is_rung_again_and_ringing_is_no_retry(road: Road) -> None:
    """A due job whose bell was lost is rung after 5, 10 and 20 minutes; nothing is charged for it."""
    road.bucket.put("a.txt", b"text")
    await road.notify("a.txt")
    rung_at = []
    for minute in range(80):
        await road.shift_clock(minute * 60 + 1)
        if (await road.recover())["duties"]["ring_stuck"]["rung"]:
            rung_at.append(minute)
    assert rung_at == [5, 15, 35, 55, 75]
    row = (await road.fetch("select status, attempts, rescue_count from document_processing_jobs"))[0]
    assert tuple(row) == ("pending", 0, 0)


async def test_a_failed_job_writes_its_dead_letter_in_the_same_transaction(road: Road) -> None:
    """The job, the row that can be listed and the message to publish are there together; a success resolves it."""
    job = await claimed(road)
    await road.queue.fail(job.lease, BOOM)
    letter = (await road.fetch("select * from dead_letters"))[0]
    assert (letter["origin"], letter["job_id"], letter["code"], letter["stage"]) == (
        "job",
        job.id,
        "BOOM",
        "downloading",
    )
    await road.relay.flush(job.id)
    message = road.publisher.of("dead-letters")[0]
    assert message.attributes["dead_letter_id"] == str(letter["id"])
    await road.directory.retry(job.id, Scope())
    await road.work_off()
    assert await road.value("select state from dead_letters") == "resolved"
    assert await road.in_step()


async def test_the_database_refuses_an_illegal_move(road: Road) -> None:
    """Whoever writes by hand cannot make a row lie."""
    job = await claimed(road)
    for change in ("status = 'completed'", "processing_stage = 'completed'", "status = 'pending'"):
        with pytest.raises(asyncpg.CheckViolationError):
            await road.fetch(f"update document_processing_jobs set {change} where id = $1", job.id)
    await road.queue.enter(job.lease, Stage.EMBEDDING)
    with pytest.raises(asyncpg.CheckViolationError):
        await road.fetch("update document_processing_jobs set processing_stage = 'processing' where id = $1", job.id)


async def test_stage_events_are_published_in_order_and_never_past_a_failure(road: Road) -> None:
    """The ledger is the outbox: each line once, in order of seq; what follows a failed one waits for it."""
    job = await claimed(road)  # ingest has published its own first line
    assert len(road.publisher.of("stages")) == 1
    road.publisher.failing = True
    await road.relay.flush(job.id)
    await road.queue.enter(job.lease, Stage.EMBEDDING)
    await road.relay.flush(job.id)
    assert len(road.publisher.of("stages")) == 1
    road.publisher.failing = False
    await road.relay.flush(job.id)
    await road.relay.flush(job.id)
    events = road.publisher.of("stages")
    assert [b'"seq":%d,' % number in event.data for number, event in enumerate(events, 1)] == [True] * 3
    assert {event.ordering_key for event in events} == {str(job.id)}


def test_ids_are_ordered_by_time() -> None:
    """Ids of different milliseconds sort by time, and carry version and variant."""
    ids = [uuid7() for _ in range(100)]
    assert all(value.version == 7 and value.variant == "specified in RFC 4122" for value in ids)
    assert [value.int >> 80 for value in ids] == sorted(value.int >> 80 for value in ids)
