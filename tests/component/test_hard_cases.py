"""Cases that were found by trying to refute the product: each was wrong once."""

import asyncio

import pytest

from shared.errors import LeaseLost
from shared.ids import text_hash
from shared.model.job import Lane
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
