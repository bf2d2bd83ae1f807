"""Files that change hands, or belong to nobody: who finds what, and what becomes of the work in hand."""

import asyncio
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.errors import Conflict, DependencyUnavailable, LeaseLost
from shared.ids import text_hash
from shared.model.document import Chunk
from shared.model.job import Job, Lane, Stage
from shared.model.locator import Locator, LocatorKind
from shared.ports.dead_letters import LetterFilter, ReplayRequest, ReplayRules
from shared.ports.stores import Failure, Scope
from shared.postgres import documents, queries
from shared.postgres.dead_letters import PostgresLetterDirectory
from shared.postgres.jobs import PostgresWorkQueue
from shared.postgres.replays import PostgresReplayStore
from shared.worker.owner import owner_of
from shared.worker.replay import Replays
from tests.plugins.road import Road
from tests.plugins.stack import eventually

NOBODY = "no name!"


async def held(road: Road) -> Job:
    """Return a job that this test works on."""
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert job is not None
    return job


async def store(road: Road, job: Job, text: str, *, vector: bool = True) -> None:
    """Commit a job's only passage."""
    chunk = Chunk(ordinal=0, text=text, locator=Locator(kind=LocatorKind.PAGE, page=1), text_hash=text_hash(text))
    await road.queue.add_chunks(job.lease, [chunk], checkpoint={"extracted": True})
    if vector:
        vectors = [(chunk.text_hash, [0.5] * 8)]
        await road.queue.add_embeddings(job.lease, road.embedder.space, vectors, tokens=1, calls=1)


async def finish(road: Road, job: Job, text: str) -> None:
    """Commit a job's only passage, and complete it."""
    await store(road, job, text)
    await road.queue.complete(job.lease, road.embedder.space, result={})


async def found_by(road: Road, organization: str) -> list[str]:
    """Return the texts that an organization finds."""
    rows = await road.fetch(
        "select text from documents d join chunks c on c.job_id = d.live_job_id where c.organization_id = $1"
        " order by c.ordinal",
        organization,
    )
    return [row["text"] for row in rows]


async def test_another_organizations_version_shows_nothing_of_the_former_text(road: Road) -> None:
    """Overwritten for somebody else with other bytes: neither of the two finds the old text, and nothing is left."""
    road.bucket.put("a.txt", b"secret of first", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"text of second", organization_id="second")
    await road.notify("a.txt")
    assert await road.fetch("select organization_id, text from chunks") == []
    assert await road.value("select live_job_id from documents") is None
    assert await road.value("select count(*) from embeddings where organization_id = 'second'") == 0
    await road.work_off()
    assert await found_by(road, "second") == ["text of second"]
    assert await road.in_step()


@pytest.mark.parametrize("end", ["cancelled", "failed, and older text is kept"])
async def test_the_former_text_stays_withdrawn_if_nothing_follows(road: Road, end: str) -> None:
    """Whatever becomes of the new owner's job, what another organization wrote does not come back."""
    road.queue = PostgresWorkQueue(road.database, withdraw_on_failure=False)
    road.bucket.put("a.txt", b"secret of first", organization_id="first")
    await road.notify("a.txt")
    await finish(road, await held(road), "secret of first")
    road.bucket.put("a.txt", b"", organization_id="second")
    await road.notify("a.txt")
    job = await held(road)
    if end == "cancelled":
        await road.directory.cancel(job.id, Scope())
    else:
        await road.queue.fail(job.lease, Failure(code="NO_TEXT", message="There is none."))
    assert await road.fetch("select text from chunks") == []
    assert await road.value("select live_job_id from documents") is None


async def test_metadata_that_name_another_owner_show_nothing_of_an_older_version(road: Road) -> None:
    """While the new version is worked on, it is given away: the old text goes, the work goes on for the new owner."""
    road.bucket.put("a.txt", b"old", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"new", organization_id="first")
    await road.notify("a.txt")
    job = await held(road)
    await store(road, job, "new")
    road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.visible("a.txt") == []
    assert await road.fetch("select distinct organization_id, text from chunks") == [("second", "new")]
    await finish(road, job, "new")
    assert await found_by(road, "second") == ["new"]
    assert await road.in_step()


@pytest.mark.parametrize("change", ["other bytes", "metadata"])
async def test_older_work_that_may_finish_ends_when_the_owner_changes(road: Road, change: str) -> None:
    """A version that was superseded too often may finish for the organization it was begun for, and for no other."""
    for version in range(5):
        road.bucket.put("a.txt", b"version %d" % version, organization_id="first")
        await road.notify("a.txt")
        if version < 4:
            job = await held(road)
    assert await road.value("select may_finish from document_processing_jobs where id = $1", job.id)
    await store(road, job, "version 3")
    if change == "metadata":
        road.bucket.describe("a.txt", organization_id="second")
    else:
        road.bucket.put("a.txt", b"of second", organization_id="second")
    await road.notify("a.txt")
    rows = await road.fetch("select status, error_code from document_processing_jobs where id = $1", job.id)
    assert rows == [("cancelled", "SUPERSEDED")]
    assert await road.fetch("select text from chunks") == []
    await road.work_off()
    assert await road.in_step()
    assert await found_by(road, "first") == []


async def test_work_that_may_finish_keeps_its_place_when_only_metadata_change(road: Road) -> None:
    """Of one organization, an older version may finish after a change of metadata too, and then the newest one does."""
    for version in range(5):
        road.bucket.put("a.txt", b"version %d" % version)
        await road.notify("a.txt")
        if version < 4:
            job = await held(road)
    road.bucket.describe("a.txt", note="new")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    await finish(road, job, "version 3")
    assert await road.visible("a.txt") == ["version 3"]
    await road.work_off()
    assert await road.in_step()


@pytest.mark.parametrize("bytes_are", ["described", "written again", "still being indexed"])
async def test_a_large_file_that_changes_hands_is_indexed_again(
    road: Road, monkeypatch: pytest.MonkeyPatch, bytes_are: str
) -> None:
    """More passages than one transaction may move: the former owner loses them at once, the new one gets its own."""
    monkeypatch.setattr(documents, "MOVED_AT_ONCE", 2)
    content = b"one\ntwo\nthree"
    road.bucket.put("a.txt", content, organization_id="first")
    await road.notify("a.txt")
    if bytes_are == "still being indexed":
        road.embedder.errors = [DependencyUnavailable()]
        assert (await road.ring()).name == "retrying"
    else:
        await road.work_off()
    if bytes_are == "written again":
        road.bucket.put("a.txt", content, organization_id="second")
    else:
        road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt")
    assert await road.fetch("select text from chunks") == []
    assert await road.value("select count(*) from embeddings where organization_id = 'second'") == 0
    await road.work_off()
    assert await found_by(road, "first") == []
    assert await found_by(road, "second") == ["one", "two", "three"]
    assert await road.in_step()
    assert (await road.recover())["duties"]["reconcile"]["stale"] == 0


async def test_a_large_older_version_is_no_reason_to_do_the_work_on_the_newer_one_again(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not go along with a file is not counted: what was paid for of the version that does stays."""
    monkeypatch.setattr(documents, "MOVED_AT_ONCE", 4)
    road.bucket.put("a.txt", b"one\ntwo\nthree", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"four\nfive", organization_id="first")
    await road.notify("a.txt")
    road.embedder.errors = [DependencyUnavailable()]
    assert (await road.ring()).name == "retrying"
    read = "select text from chunks where organization_id = 'second' order by ordinal"
    road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert [row["text"] for row in await road.fetch(read)] == ["four", "five"]
    assert await found_by(road, "first") == []


async def test_a_large_file_that_is_nobodys_is_shown_to_nobody(road: Road, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is withdrawn at once, its job says why, and nothing is paid until it says whose it is."""
    monkeypatch.setattr(documents, "MOVED_AT_ONCE", 2)
    road.bucket.put("a.txt", b"one\ntwo\nthree", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.describe("a.txt", organization_id=NOBODY)
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.fetch("select text from chunks") == []
    assert await road.work_off() == 0
    assert await road.value("select error_code from document_processing_jobs") == "TENANT_UNKNOWN"
    road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    await road.work_off()
    assert await found_by(road, "second") == ["one", "two", "three"]
    assert await road.value("select state from dead_letters") == "resolved"


async def test_a_file_that_changes_hands_waits_for_a_switch_of_spaces(road: Road) -> None:
    """Its passages become findable for somebody else: not while it is decided which vectors are searched."""
    road.bucket.put("a.txt", b"alpha", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.describe("a.txt", organization_id="second")
    async with road.database.transaction() as connection:
        await queries.load("spaces").hold_switch.value(connection)
        move = asyncio.create_task(road.notify("a.txt", "OBJECT_METADATA_UPDATE"))

        async def waits() -> bool:
            assert not move.done(), "it did not wait"
            asked = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            return bool(await road.value(asked))

        await eventually(waits)
        assert await found_by(road, "first") == ["alpha"]
    assert (await move).name == "done"
    assert await found_by(road, "second") == ["alpha"]


async def test_text_without_a_vector_at_the_end_is_embedded_by_the_next_attempt(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vector that another job wrote for the former owner is missing at completion: tried again, not failed."""
    road.bucket.put("a.txt", b"one\ntwo")
    await road.notify("a.txt")
    enter = road.queue.enter

    async def too_late(lease: Any, stage: Stage) -> None:
        if stage is Stage.STORING:
            await road.fetch("delete from embeddings where text_hash = $1", text_hash("two"))
        await enter(lease, stage)

    monkeypatch.setattr(road.queue, "enter", too_late)
    assert (await road.ring()).name == "retrying"
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["error_code"]) == ("pending", "INCOMPLETE")
    assert await road.visible("a.txt") == []
    monkeypatch.undo()
    await road.shift_clock(61)
    await road.work_off()
    assert await road.in_step()
    assert sorted(road.embedder.texts) == ["one", "two", "two"]


async def test_incomplete_work_is_never_shown(road: Road) -> None:
    """Completing a job with a passage that has no vector is refused, in a way that may pass."""
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    job = await held(road)
    await store(road, job, "one", vector=False)
    with pytest.raises(Conflict) as refused:
        await road.queue.complete(job.lease, road.embedder.space, result={})
    assert refused.value.code == "INCOMPLETE"
    assert await road.visible("a.txt") == []


@pytest.mark.parametrize("claimed", [False, True], ids=["waits", "is worked on"])
async def test_work_ends_when_its_file_no_longer_says_whose_it_is(road: Road, claimed: bool) -> None:
    """Nothing is read or paid for nobody; the job says why it failed, and begins again with the owner."""
    road.bucket.put("a.txt", b"alpha", organization_id="first")
    await road.notify("a.txt")
    job = await held(road) if claimed else None
    road.bucket.describe("a.txt", organization_id=NOBODY)
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    if job is not None:
        with pytest.raises(LeaseLost):
            await store(road, job, "alpha")
    assert await road.work_off() == 0
    assert await road.fetch("select status, error_code from document_processing_jobs") == [("failed", "TENANT_UNKNOWN")]
    assert await road.fetch("select state from dead_letters") == [("open",)]
    road.bucket.describe("a.txt", organization_id="second")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.work_off() == 1
    assert await found_by(road, "second") == ["alpha"]
    assert await road.value("select state from dead_letters") == "resolved"


async def of_nobody(road: Road) -> Any:
    """Upload a file without an owner; return its failed job's id."""
    road.synchroniser.owner_of = owner_of(template=None, default=None)
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    assert await road.value("select error_code from document_processing_jobs") == "TENANT_UNKNOWN"
    return await road.value("select id from document_processing_jobs")


async def deliver_hints(road: Road) -> int:
    """Publish what waits, and deliver what ingest is to look at; return how many hints that were."""
    await road.relay.drain()
    hints = road.publisher.of("uploads")
    road.publisher.messages[:] = [message for message in road.publisher.messages if message.topic != "uploads"]
    for hint in hints:
        assert (hint.attributes["objectId"], hint.attributes["eventType"]) == ("a.txt", "OBJECT_FINALIZE")
        await road.notify("a.txt")
    return len(hints)


async def retry(road: Road, job_id: Any, how: str) -> None:
    """Ask for another try, as a person does."""
    if how == "retry":
        job = await road.directory.retry(job_id, Scope())
        assert (job.status, job.error_code) == ("failed", "TENANT_UNKNOWN")
        assert "looked at anew" in str(job.error_message)
    else:
        store, letters = (
            PostgresReplayStore(road.database, ReplayRules(topics={})),
            PostgresLetterDirectory(road.database),
        )
        asked = ReplayRequest(filters=LetterFilter(), by="a person", rate_per_second=1000.0)
        await Replays(store, letters, clock=SystemClock()).request(asked, patience_seconds=60)
    assert await road.value("select state from dead_letters") == "replaying"
    assert await road.work_off() == 0


@pytest.mark.parametrize("how", ["retry", "replay"])
async def test_a_retry_of_nobodys_file_asks_whose_it_is_by_todays_settings(road: Road, how: str) -> None:
    """With DEFAULT_ORGANIZATION_ID set by now, the file is that organization's, and its letter is resolved."""
    job_id = await of_nobody(road)
    road.synchroniser.owner_of = owner_of(template=None, default="acme")
    await retry(road, job_id, how)
    assert await deliver_hints(road) == 1
    assert await road.work_off() == 1
    assert await found_by(road, "acme") == ["alpha"]
    assert await road.fetch("select distinct organization_id from document_processing_jobs") == [("acme",)]
    assert await road.value("select state from dead_letters") == "resolved"
    assert await road.in_step()


@pytest.mark.parametrize("how", ["retry", "replay"])
async def test_a_retry_of_a_file_that_is_still_nobodys_opens_its_letter_again(road: Road, how: str) -> None:
    """Nothing runs and nothing is paid for nobody; the letter waits for a person again."""
    job_id = await of_nobody(road)
    await retry(road, job_id, how)
    assert await deliver_hints(road) == 1
    assert await road.work_off() == 0
    assert road.embedder.texts == []
    assert await road.value("select status from document_processing_jobs") == "failed"
    letters = await road.fetch("select state, failures, replays from dead_letters")
    assert letters == [("open", 1, 1)]
    if how == "replay":
        assert await road.value("select state from replays") == "failed"
    road.synchroniser.owner_of = owner_of(template=None, default="acme")
    await retry(road, job_id, how)
    await deliver_hints(road)
    await road.work_off()
    assert await road.in_step()


async def test_a_question_whose_a_file_is_that_gets_lost_is_asked_by_the_comparison(road: Road) -> None:
    """The hint never arrives: the next comparison of bucket and index looks, and the file is indexed."""
    job_id = await of_nobody(road)
    await road.directory.retry(job_id, Scope())
    await road.relay.drain()
    road.publisher.messages.clear()
    road.synchroniser.owner_of = owner_of(template=None, default="acme")
    assert (await road.recover())["duties"]["reconcile"]["stale"] == 1
    await road.work_off()
    assert await road.in_step()
    assert (await road.recover())["duties"]["reconcile"]["stale"] == 0


async def test_a_letter_of_nobodys_file_ends_when_a_newer_version_failed_too(road: Road) -> None:
    """The retried version is never looked at again: its letter and batch wait no longer, the newer letter is open."""
    job_id = await of_nobody(road)
    await retry(road, job_id, "replay")
    road.bucket.put("a.txt", b"beta")
    await road.notify("a.txt")
    for _ in range(2):
        await road.recover()
    letters = await road.fetch("select state from dead_letters order by first_seen_at")
    assert letters == [("resolved",), ("open",)]
    assert await road.value("select state from replays") == "superseded"
    assert await road.value("select state from replay_batches") == "done"
