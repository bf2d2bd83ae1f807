"""Backfilling a prefix: what ingest would decide, in the bulk lane, a bounded part at a time, from where it stopped."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.process.bulk_import import ImportPrefix
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.model.job import Job, JobType, Lane, Status
from shared.model.orders import BulkImport
from shared.ports.stores import Scope
from shared.ports.tasks import NewTask
from shared.postgres.recover import PostgresRecoverStore
from shared.postgres.tasks import PostgresTaskStore
from tests.plugins.road import Road

BATCH = 5


@pytest.fixture
def tasks(road: Road) -> PostgresTaskStore:
    """Give the store on the road's database, and let the road's worker import."""
    store = PostgresTaskStore(road.database)
    road.process = road.worker("w", others={JobType.BULK_IMPORT: importer(road, store)})
    return store


def importer(road: Road, store: PostgresTaskStore, *, max_pending: int = 200, **other: Any) -> ImportPrefix:
    """Return the handler."""
    return ImportPrefix(
        tasks=store,
        storage=other.get("storage", road.bucket),
        synchroniser=road.synchroniser,
        clock=SystemClock(),
        bucket="uploads",
        max_pending=max_pending,
        batch=BATCH,
    )


async def asked(tasks: PostgresTaskStore, prefix: str = "", organization_id: str | None = None) -> UUID:
    """Ask for an import."""
    order = BulkImport(prefix=prefix, organization_id=organization_id)
    job_id, _ = await tasks.add(
        NewTask(
            job_type=JobType.BULK_IMPORT,
            organization_id="acme",
            entity_type="prefix",
            entity_id=prefix,
            payload=order.payload(),
        )
    )
    return job_id


async def worked_off(road: Road, job_id: UUID) -> Job:
    """Let time pass and work until the import has ended."""
    for hour in range(1, 30):
        await road.work_off()
        job = await road.directory.get(job_id, Scope())
        assert job is not None
        if job.completed_at is not None:
            return job
        await road.shift_clock(60.0 * hour)
    raise AssertionError(job)


async def test_what_is_below_the_prefix_is_indexed(road: Road, tasks: PostgresTaskStore) -> None:
    """Files that nobody was told about become searchable, others are left alone, and the result counts them."""
    for number in range(7):
        road.bucket.put(f"old/{number}.txt", f"text {number}".encode())
    road.bucket.put("other.txt", b"other")
    job = await worked_off(road, await asked(tasks, "old/"))
    assert (job.status, job.progress_done, job.progress_total, job.progress_unit) == (
        Status.COMPLETED, 7, 7, "objects",
    )  # fmt: skip
    assert job.result == {"prefix": "old/", "seen": 7, "indexed": 7, "jobs": {"completed": 7}, "errors": []}
    assert [await road.visible(f"old/{number}.txt") for number in range(7)] == [
        [f"text {number}"] for number in range(7)
    ]
    assert await road.visible("other.txt") == []
    made = await road.fetch("select lane, entity_id from document_processing_jobs where document_id is not null")
    assert {tuple(row) for row in made} == {("bulk", str(job.id))}


async def test_again_changes_nothing(road: Road, tasks: PostgresTaskStore) -> None:
    """A second import makes no job; a new generation of the same bytes is adopted, a new tenant moved."""
    for name in ("a", "b", "c"):
        road.bucket.put(name, name.encode())
    await worked_off(road, await asked(tasks))
    road.bucket.put("b", b"b")
    road.bucket.describe("c", organization_id="other")
    job = await worked_off(road, await asked(tasks))
    assert job.result == {
        "prefix": "", "seen": 3, "unchanged": 1, "adopted": 1, "described": 1, "jobs": {}, "errors": [],
    }  # fmt: skip
    assert await road.value("select organization_id from documents where name = 'c'") == "other"
    assert await road.in_step()


async def test_folders_are_counted_and_make_no_job(road: Road, tasks: PostgresTaskStore) -> None:
    """They are no files, and so nothing that could fail."""
    for name, content in (("docs/", b""), ("docs/a.txt", b"alpha"), ("docs/deep/", b"")):
        road.bucket.put(name, content)
    job = await worked_off(road, await asked(tasks))
    assert job.result == {
        "prefix": "", "seen": 3, "folders": 2, "indexed": 1, "jobs": {"completed": 1}, "errors": [],
    }  # fmt: skip


async def test_one_organization_only(road: Road, tasks: PostgresTaskStore) -> None:
    """With an organization, objects of others and of nobody are not touched."""
    road.bucket.put("a", b"a")
    road.bucket.put("b", b"b", organization_id="other")
    job = await worked_off(road, await asked(tasks, organization_id="other"))
    assert job.result is not None
    assert (job.result["of_others"], job.result["jobs"]) == (1, {"completed": 1})
    assert (await road.visible("a"), await road.visible("b")) == ([], ["b"])


async def test_never_more_than_so_many_wait(road: Road, tasks: PostgresTaskStore) -> None:
    """The import makes jobs up to its bound, gives its slot back, and goes on when some have ended."""
    for number in range(10):
        road.bucket.put(f"{number:02}", b"text")
    road.process = road.worker("w", others={JobType.BULK_IMPORT: importer(road, tasks, max_pending=4)})
    job_id = await asked(tasks)
    assert (await road.ring(Lane.BULK)).name == "handed_on"
    waiting = "select count(*) from document_processing_jobs where document_id is not null and status = 'pending'"
    assert await road.value(waiting) == 4
    paused = await road.directory.get(job_id, Scope())
    assert paused is not None
    assert (paused.status, paused.attempts, paused.progress_done, paused.progress_total) == (Status.PENDING, 0, 0, 4)
    assert paused.checkpoint is not None
    assert paused.checkpoint["after"] == "03"
    await road.shift_clock(30)
    await road.outbox.ring_due(limit=10)
    assert (await road.ring(Lane.BULK)).name == "handed_on"
    assert await road.value(waiting) == 4, "nothing has ended, so nothing was added"
    job = await worked_off(road, job_id)
    assert job.result is not None
    assert job.result["jobs"] == {"completed": 10}


async def test_cancelled_between_two_batches(road: Road, tasks: PostgresTaskStore) -> None:
    """A cancelled import makes no more jobs after the batch in hand; those that it made are worked on."""
    for number in range(12):
        road.bucket.put(f"{number:02}", b"text")
    job_id = await asked(tasks)

    class Cancelling:
        async def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> Any:
            async for live in road.bucket.list(bucket, prefix, start_after=start_after):
                if live.ref.name == "07":
                    await road.directory.cancel(job_id, Scope())
                yield live

    road.process = road.worker("w", others={JobType.BULK_IMPORT: importer(road, tasks, storage=Cancelling())})
    assert (await road.ring(Lane.BULK)).name == "lease_lost"
    made = await road.value("select count(*) from document_processing_jobs where document_id is not null")
    assert made == 10
    assert await road.work_off() == 10
    job = await road.directory.get(job_id, Scope())
    assert job is not None
    assert job.status is Status.CANCELLED


async def test_goes_on_after_its_worker_died(road: Road, tasks: PostgresTaskStore) -> None:
    """A successor goes on from the last name that was recorded, alone at first, and then beside the others' work."""
    for number in range(8):
        road.bucket.put(f"{number:02}", b"text")
    job_id = await asked(tasks)
    job = await road.queue.claim(Lane.BULK, worker="dead")
    assert job is not None
    listed = 0

    class Died(BaseException):
        pass

    class Dying:
        async def list(self, bucket: str, prefix: str = "", *, start_after: str = "") -> Any:
            nonlocal listed
            async for live in road.bucket.list(bucket, prefix, start_after=start_after):
                listed += 1
                if listed == 7:
                    raise Died
                yield live

    with pytest.raises(Died):
        await importer(road, tasks, storage=Dying())(job)
    await road.shift_clock(120)
    await PostgresRecoverStore(road.database).rescue_expired(limit=10)
    assert (await road.ring(Lane.BULK, quarantined=True)).name == "handed_on"
    proved = await road.directory.get(job_id, Scope())
    assert proved is not None
    assert (proved.quarantined, proved.rescue_count, proved.checkpoint and proved.checkpoint["after"]) == (
        False,
        1,
        "07",
    )
    assert await road.value("select stalled_rescues from document_processing_jobs where id = $1", job_id) == 0
    ended = await worked_off(road, job_id)
    assert ended.result is not None
    assert (ended.result["seen"], ended.result["jobs"]) == (8, {"completed": 8})


async def test_what_is_written_meanwhile_is_interactive(road: Road, tasks: PostgresTaskStore) -> None:
    """An object that is newer than the import waits where its own notification would have put it."""
    road.bucket.put("old", b"old")
    road.bucket.put("new", b"new")
    live, content = road.bucket.objects["new"]
    later = datetime.now(UTC) + timedelta(hours=1)
    road.bucket.objects["new"] = (dataclasses.replace(live, updated_at=later), content)
    await asked(tasks)
    await road.ring(Lane.BULK)
    found = await road.fetch("select name, lane from document_processing_jobs where document_id is not null")
    assert {row["name"]: row["lane"] for row in found} == {"old": "bulk", "new": "interactive"}


async def test_one_broken_object_does_not_stop_the_others(road: Road, tasks: PostgresTaskStore) -> None:
    """What cannot be decided on is named in the result; a bucket that does not answer is tried again from there."""
    for name in ("a", "b", "c"):
        road.bucket.put(name, name.encode())
    stat = road.bucket.stat
    refusals = {"b": [ValueError("odd")], "c": [DependencyUnavailable("away.")]}

    async def refusing(ref: Any) -> Any:
        if refusals.get(ref.name):
            raise refusals[ref.name].pop()
        return await stat(ref)

    road.bucket.stat = refusing  # type: ignore[method-assign]
    job = await worked_off(road, await asked(tasks))
    assert job.result is not None
    assert (job.result["indexed"], job.result["not_decided"]) == (2, 1)
    assert job.result["errors"] == [{"name": "b", "code": "INTERNAL"}]
