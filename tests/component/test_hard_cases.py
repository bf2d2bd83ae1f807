"""Cases that were found by trying to refute the product: each was wrong once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from shared.errors import LeaseLost
from shared.ids import text_hash
from shared.model.job import Job, JobType, Lane
from shared.ports.stores import Failure, Scope
from shared.ports.tasks import NewTask
from shared.postgres.tasks import PostgresTaskStore
from tests.plugins.road import Road


@pytest.mark.parametrize("said", ["--5", "²", "9" * 5000, "1e3", ""])
async def test_a_priority_that_is_no_number_keeps_no_file_out(road: Road, said: str) -> None:
    """Whatever the metadata say of priority, the file is indexed."""
    road.bucket.put("a.txt", b"alpha", priority=said)
    await road.notify("a.txt")
    await road.work_off()
    assert await road.in_step()


@pytest.mark.parametrize("key", ["note", "user_id"])
async def test_metadata_that_cannot_be_stored_keep_no_file_out(road: Road, key: str) -> None:
    """NUL characters and lone surrogates in metadata are left out; the file is indexed, and decided on once."""
    road.bucket.put("a.txt", b"alpha", **{key: "a\x00b\ud800"})
    await road.notify("a.txt")
    await road.work_off()
    assert await road.in_step()
    assert (await road.notify("a.txt")).name == "duplicate"


async def test_one_strange_object_does_not_stop_the_comparison(road: Road) -> None:
    """An object that nobody can decide on is counted; the others come home in the same run."""
    road.bucket.put("a.txt", b"alpha")
    road.bucket.put("b.txt", b"beta")
    stat = road.bucket.stat

    async def strange(ref):
        if ref.name == "a.txt":
            raise ValueError("nobody expected this")
        return await stat(ref)

    road.bucket.stat = strange
    counts = (await road.recover())["duties"]["reconcile"]
    assert counts["errors"] == 1
    await road.work_off()
    assert await road.visible("b.txt") == ["beta"]


async def test_withdrawn_text_does_not_come_back(road: Road) -> None:
    """An older job that was still allowed to finish ends when the live version fails: its text stays withdrawn."""
    embed, version = road.embedder.embed, 0

    async def change(content: bytes) -> None:
        road.bucket.put("a.txt", content)
        await road.notify("a.txt")

    async def embed_while_it_changes(*arguments: object, **named: object) -> object:
        nonlocal version
        version += 1
        if version < 4:
            await change(f"version {version}".encode())
        else:
            await change(b"")
            assert (await road.ring()).name == "failure_recorded"
        return await embed(*arguments, **named)

    await change(b"version 0")
    road.embedder.embed = embed_while_it_changes
    assert [(await road.ring()).name for _ in range(4)] == ["lease_lost"] * 4
    road.embedder.embed = embed
    await road.work_off()
    assert await road.visible("a.txt") == []
    assert await road.value("select count(*) from chunks") == 0


async def test_two_jobs_with_the_same_texts_do_not_wait_for_each_other_crosswise(road: Road) -> None:
    """Vectors of the same texts, stored at once in opposite orders: both succeed."""
    jobs = []
    for name in ("a.txt", "b.txt"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
        jobs.append(await road.queue.claim(Lane.INTERACTIVE, worker="w"))
    vectors = [(text_hash(str(number)), [0.5] * 8) for number in range(3000)]
    results = await asyncio.gather(
        *(
            road.queue.add_embeddings(job.lease, road.embedder.space, order, tokens=1, calls=1)
            for job, order in zip(jobs, (vectors, vectors[::-1]), strict=True)
        ),
        return_exceptions=True,
    )
    assert results == [None, None]


async def test_dead_letters_move_with_their_document(road: Road) -> None:
    """The failure of a file is its new owner's to see, and not the former one's."""
    road.bucket.put("a.txt", b"", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.fetch("select organization_id from dead_letters") == [("second",)]


@pytest.mark.parametrize("end", ["overwritten", "removed"])
async def test_dead_letters_of_files_that_are_no_more_are_resolved(road: Road, end: str) -> None:
    """A newer version that is indexed, or a removal, resolves the failure of the older one."""
    road.bucket.put("a.txt", b"")
    await road.notify("a.txt")
    await road.work_off()
    assert await road.value("select state from dead_letters") == "open"
    if end == "overwritten":
        road.bucket.put("a.txt", b"good")
    else:
        road.bucket.remove("a.txt")
    await road.notify("a.txt")
    await road.work_off()
    assert await road.in_step()
    assert await road.value("select state from dead_letters") == "resolved"


async def test_a_file_that_no_longer_says_whose_it_is_is_nobodys_until_it_does(road: Road) -> None:
    """The former owner finds it no more; with a valid owner again it is found, without being paid for again."""
    road.bucket.put("a.txt", b"one", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.describe("a.txt", organization_id="no name!")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.fetch("select distinct organization_id from chunks") == [("?",)]
    road.bucket.describe("a.txt", organization_id="first")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    await road.work_off()
    assert await road.fetch("select distinct organization_id from chunks") == [("first",)]
    assert road.embedder.texts == ["one"]


async def test_a_bell_that_met_a_locked_row_is_rung_again(road: Road) -> None:
    """A bell that comes while a decision about metadata holds the job finds nothing; the decision rings anew."""
    road.bucket.put("a.txt", b"one", organization_id="first")
    await road.notify("a.txt")
    bells = await road.value("select count(*) from outbox where topic = 'work'")
    road.bucket.describe("a.txt", organization_id="first", note="new")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.value("select count(*) from outbox where topic = 'work'") == bells + 1


async def test_the_revision_alone_fences_off_a_worker(road: Road) -> None:
    """A worker whose document was decided on writes nothing, even if its job was left as it was."""
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    await road.fetch("update documents set revision = revision + 1")
    with pytest.raises(LeaseLost):
        await road.queue.complete(job.lease, road.embedder.space, result={})


async def test_an_emptied_broker_is_rung_anew(road: Road) -> None:
    """When the broker is known to have lost everything, each pending job is rung for at once, and once."""
    for name in ("a.txt", "b.txt"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    assert await road.outbox.ring_due(limit=10) == 0
    assert await road.outbox.forget_bells() == 2
    assert await road.outbox.ring_due(limit=10) == 2
    assert await road.outbox.ring_due(limit=10) == 0


async def test_a_worker_without_its_lease_does_not_wait_for_texts_of_others(road: Road) -> None:
    """It is told when it claims texts, not only by its next heartbeat; else it would look at them again and again."""
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    space, texts = road.embedder.space, [text_hash("one")]
    assert await road.queue.claim_texts(job.lease, space, texts) == set(texts)
    await road.fetch("update document_processing_jobs set lease_epoch = lease_epoch + 1")
    with pytest.raises(LeaseLost):
        await road.queue.claim_texts(job.lease, space, texts)


async def lose_worker(road: Road, *, times_before: int, commit: Callable[[Job], Awaitable[None]] | None = None) -> None:
    """Let a worker take the job, commit something, and be lost; recover finds out."""
    job = await road.queue.claim(Lane.INTERACTIVE, worker=f"w{times_before}", quarantined=times_before > 0)
    assert job is not None, times_before
    if commit is not None:
        await commit(job)
    await road.shift_clock((times_before + 1) * 400)
    await road.recover()


async def rescues(road: Road) -> tuple[object, ...]:
    """Return what the job says of its rescues."""
    return tuple((await road.fetch("select status, rescue_count, stalled_rescues from document_processing_jobs"))[0])


@pytest.mark.parametrize("stage", ["reading", "embedding"])
async def test_a_long_job_outlives_any_number_of_workers(road: Road, stage: str) -> None:
    """Twelve machines are taken away, each after one more batch: the job goes on; the rescues are still counted."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    batches = 0

    async def one_more(job: Job) -> None:
        nonlocal batches
        batches += 1
        if stage == "reading":
            await road.queue.add_chunks(job.lease, [], checkpoint={"segments": 0, "chunks": 0, "batch": batches})
        else:
            vectors = [(text_hash(str(batches)), [0.5] * 8)]
            await road.queue.add_embeddings(job.lease, road.embedder.space, vectors, tokens=1, calls=1)

    for before in range(12):
        await lose_worker(road, times_before=before, commit=one_more)
        assert await rescues(road) == ("pending", before + 1, 1)
    await road.work_off()
    assert await road.in_step()


@pytest.mark.parametrize("stage", ["reading", "embedding"])
async def test_work_that_is_committed_again_is_no_progress(road: Road, stage: str) -> None:
    """A file that kills its worker behind one place ends after six losses, although what is before it is repeated."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")

    async def the_same(job: Job) -> None:
        if stage == "reading":
            await road.queue.add_chunks(job.lease, [], checkpoint={"segments": 1, "chunks": 0})
        else:
            vectors = [(text_hash("alpha"), [0.5] * 8)]
            await road.queue.add_embeddings(job.lease, road.embedder.space, vectors, tokens=1, calls=1)

    for before in range(6):
        assert await rescues(road) == ("pending", before, before)
        await lose_worker(road, times_before=before, commit=the_same)
    assert await rescues(road) == ("failed", 5, 5)


async def test_progress_ends_the_count_of_waiting(road: Road) -> None:
    """A job that was deferred for long and then committed a batch has its whole patience again."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    reason = Failure(code="RATE_LIMITED", message="later")
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert await road.queue.defer(job.lease, reason, delay_seconds=0)
    await road.shift_clock(25 * 3600)
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    await road.queue.add_chunks(job.lease, [], checkpoint={"segments": 1, "chunks": 0})
    assert await road.queue.defer(job.lease, reason, delay_seconds=0)
    await road.shift_clock(50 * 3600)
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert not await road.queue.defer(job.lease, reason, delay_seconds=0)


async def test_a_long_task_outlives_any_number_of_workers(road: Road) -> None:
    """A job without a document that saves where it is goes on too; one that saves the same place again ends."""
    tasks = PostgresTaskStore(road.database)
    order = NewTask(
        job_type=JobType.AUDIT_CLEANUP, organization_id="acme", entity_type="audit", entity_id="all", payload={}
    )
    task_id, _ = await tasks.add(order)
    said = "select status, rescue_count, stalled_rescues from document_processing_jobs where id = $1"
    for before in range(13):
        job = await road.queue.claim(Lane.BULK, worker="w", quarantined=before > 0)
        assert job is not None, before
        await tasks.save(job.lease, checkpoint={"after": min(before, 7)}, done=before, total=None, unit="rows")
        await road.shift_clock((before + 1) * 400)
        await road.recover()
        if before <= 7:
            assert tuple((await road.fetch(said, task_id))[0]) == ("pending", before + 1, 1)
    assert tuple((await road.fetch(said, task_id))[0]) == ("failed", 12, 5)


async def test_a_person_gives_a_lost_job_all_its_rescues_again(road: Road) -> None:
    """A retry by hand of a job that ended by lost workers starts both counts anew."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    for before in range(6):
        await lose_worker(road, times_before=before)
    assert await rescues(road) == ("failed", 5, 5)
    await road.directory.retry(await road.value("select id from document_processing_jobs"), Scope())
    assert await rescues(road) == ("pending", 0, 0)
