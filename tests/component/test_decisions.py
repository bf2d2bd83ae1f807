"""Events are hints: whatever arrives, in whatever order, the end state equals the bucket and work is done once."""

import asyncio
from typing import Any

import pytest

from shared.model.job import Status
from tests.plugins.road import Road, delivery


async def test_the_same_notification_fifty_times_at_once_makes_one_job(road: Road) -> None:
    """One upload, fifty concurrent notifications: one job, one execution, one download."""
    road.bucket.put("a.txt", b"alpha\nbeta")
    async with asyncio.TaskGroup() as group:
        outcomes = [group.create_task(road.notify("a.txt")) for _ in range(50)]
    assert sorted({task.result().name for task in outcomes}) == ["done", "duplicate"]
    assert [task.result().name for task in outcomes].count("done") == 1
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(road.ring()) for _ in range(50)]
    assert [task.result().name for task in answers].count("done") == 1
    assert await road.value("select count(*) from document_processing_jobs") == 1
    assert await road.value("select attempts from document_processing_jobs") == 1
    assert len(road.bucket.downloads) == 1
    assert sorted(road.embedder.texts) == ["alpha", "beta"]
    assert await road.in_step()


@pytest.mark.parametrize("meanwhile", [b"two", b""], ids=["others are shown", "withdrawn"])
async def test_passages_are_kept_only_if_they_are_still_shown(
    road: Road, monkeypatch: pytest.MonkeyPatch, meanwhile: bytes
) -> None:
    """Between the decision to keep them and its commit, the version in between completes, or fails: decided anew.

    Neither raises the revision. Sequence 30636000089 of the recorded runs lost a file so.
    """
    road.bucket.put("a.txt", b"one")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", meanwhile)
    await road.notify("a.txt")
    between = road.bucket.objects["a.txt"]
    road.bucket.put("a.txt", b"one")
    commit, decided = road.documents.commit, list[str]()

    async def late(*arguments: Any, **more: Any) -> Any:
        decided.append(type(arguments[1]).__name__)
        if len(decided) == 1:
            newest = road.bucket.objects["a.txt"]
            road.bucket.objects["a.txt"] = between  # it was downloaded before
            await road.ring()
            road.bucket.objects["a.txt"] = newest
        return await commit(*arguments, **more)

    monkeypatch.setattr(road.documents, "commit", late)
    await road.notify("a.txt")
    assert decided == ["Adopt", "Index"]
    await road.work_off()
    assert await road.visible("a.txt") == ["one"]
    assert await road.in_step()


async def test_a_delete_that_arrives_before_its_create(road: Road) -> None:
    """The delete event of an upload that still exists removes nothing; of one that is gone, it leaves nothing."""
    road.bucket.put("a.txt", b"alpha")
    assert (await road.notify("a.txt", "OBJECT_DELETE")).name == "done"
    assert (await road.notify("a.txt", "OBJECT_FINALIZE")).name == "duplicate"
    await road.work_off()
    assert await road.in_step()
    road.bucket.put("b.txt", b"beta")
    road.bucket.remove("b.txt")
    assert (await road.notify("b.txt", "OBJECT_DELETE")).name == "duplicate"
    assert (await road.notify("b.txt", "OBJECT_FINALIZE")).name == "duplicate"
    await road.work_off()
    assert await road.in_step()
    assert await road.value("select count(*) from document_processing_jobs") == 1


async def test_a_delete_of_the_old_generation_after_an_overwrite_removes_nothing(road: Road) -> None:
    """Overwriting emits a delete for the old generation, which may come last: the new one stays found."""
    old = road.bucket.put("a.txt", b"old")
    await road.notify("a.txt")
    await road.work_off()
    new = road.bucket.put("a.txt", b"new")
    await road.notify("a.txt", "OBJECT_FINALIZE", overwroteGeneration=str(old.generation))
    await road.work_off()
    await road.notify("a.txt", "OBJECT_DELETE", overwrittenByGeneration=str(new.generation))
    await road.notify("a.txt", "OBJECT_ARCHIVE", overwrittenByGeneration=str(new.generation))
    await road.work_off()
    assert await road.visible("a.txt") == ["new"]
    assert await road.in_step()


async def test_generations_are_not_ordered(road: Road) -> None:
    """Each later generation has a smaller number: none is taken for stale, and none is kept for being greater."""
    numbers = []
    for content in (b"one", b"two", b"three"):
        numbers.append(road.bucket.put("a.txt", content).generation)
        await road.notify("a.txt", objectGeneration=str(numbers[-1]))
        await road.work_off()
        assert await road.visible("a.txt") == [content.decode()]
    assert numbers == sorted(numbers, reverse=True)
    for number in numbers:
        await road.notify("a.txt", objectGeneration=str(number))
        await road.notify("a.txt", "OBJECT_DELETE", objectGeneration=str(number))
    await road.work_off()
    assert await road.in_step()
    assert len(road.bucket.downloads) == 3


async def test_deleted_files_are_no_longer_found(road: Road) -> None:
    """A deleted object's chunks are gone when its event was handled, and its running job can write nothing."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.remove("a.txt")
    assert (await road.notify("a.txt", "OBJECT_DELETE")).name == "done"
    assert await road.visible("a.txt") == []
    assert await road.value("select count(*) from chunks") == 0
    assert await road.in_step()


async def test_the_same_bytes_again_adopt_the_chunks_they_have(road: Road) -> None:
    """A new generation of the same content makes no job, no download and no model call."""
    road.bucket.put("a.txt", b"alpha")
    await road.notify("a.txt")
    await road.work_off()
    again = road.bucket.put("a.txt", b"alpha")
    assert (await road.notify("a.txt")).name == "done"
    assert await road.work_off() == 0
    assert await road.value("select generation from documents") == again.generation
    assert await road.value("select count(*) from document_processing_jobs") == 1
    assert road.embedder.texts == ["alpha"]
    assert await road.in_step()


async def test_text_that_has_a_vector_is_never_paid_for_again(road: Road) -> None:
    """An overwrite that changes one line sends one line to the model; a copy under another name sends none."""
    road.bucket.put("a.txt", b"one\ntwo\nthree")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"one\nTWO\nthree")
    await road.notify("a.txt")
    road.bucket.put("copy.txt", b"three\none")
    await road.notify("copy.txt")
    await road.work_off()
    assert sorted(road.embedder.texts) == ["TWO", "one", "three", "two"]
    assert await road.in_step()


async def test_a_newer_generation_cancels_the_older_job(road: Road) -> None:
    """The superseded job is cancelled, not run, and says so."""
    road.bucket.put("a.txt", b"old")
    await road.notify("a.txt")
    road.bucket.put("a.txt", b"new")
    await road.notify("a.txt")
    assert await road.work_off() == 1
    rows = await road.fetch("select status, error_code from document_processing_jobs order by created_at")
    assert [(row["status"], row["error_code"]) for row in rows] == [("cancelled", "SUPERSEDED"), ("completed", None)]
    assert await road.in_step()


async def test_a_file_that_changes_all_the_time_is_still_indexed(road: Road) -> None:
    """A file that is overwritten whenever it is worked on: after three supersessions in a row one may finish."""
    embed = road.embedder.embed
    version = 0

    async def change() -> None:
        nonlocal version
        version += 1
        road.bucket.put("a.txt", f"version {version}".encode())
        await road.notify("a.txt")

    async def embed_while_it_changes(*arguments: object, **named: object) -> object:
        await change()
        return await embed(*arguments, **named)

    await change()
    road.embedder.embed = embed_while_it_changes
    outcomes = [(await road.ring()).name for _ in range(4)]
    assert outcomes == ["lease_lost", "lease_lost", "lease_lost", "done"]
    assert await road.visible("a.txt") == ["version 4"]
    assert await road.value("select supersessions from documents") == 0
    road.embedder.embed = embed
    await road.work_off()
    assert await road.in_step()


async def test_a_metadata_change_of_owner_moves_the_rows(road: Road) -> None:
    """The new owner's organization has documents, jobs, ledger and chunks; the old one has nothing to find."""
    road.bucket.put("a.txt", b"alpha", organization_id="first")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.describe("a.txt", organization_id="second", user_id="u1")
    assert (await road.notify("a.txt", "OBJECT_METADATA_UPDATE")).name == "done"
    assert (await road.notify("a.txt", "OBJECT_METADATA_UPDATE")).name == "duplicate"
    for table in ("documents", "document_processing_jobs", "job_events", "chunks"):
        assert await road.fetch(f"select distinct organization_id from {table}") == [("second",)], table
    assert await road.value("select count(*) from embeddings where organization_id = 'second'") == 1
    assert await road.in_step()


async def test_an_object_of_nobody_fails_with_a_code_until_it_has_an_owner(road: Road) -> None:
    """Without an owner the job is failed TENANT_UNKNOWN at once; metadata that names one brings it back."""
    road.bucket.put("a.txt", b"alpha", organization_id="not a name!")
    await road.notify("a.txt")
    assert await road.work_off() == 0
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["error_code"]) == ("failed", "TENANT_UNKNOWN")
    assert "organization-id" in job["error_message"]
    road.bucket.describe("a.txt", organization_id="acme")
    await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    assert await road.work_off() == 1
    assert await road.in_step()


async def test_a_malformed_message_is_refused_with_a_reason_and_not_looped(road: Road) -> None:
    """It is acked, and kept as one dead letter however often it comes."""
    broken = delivery("uploads-ingest", b"\xff\x00", {"eventType": "OBJECT_FINALIZE"})
    for _ in range(3):
        outcome = await road.ingest(broken)
        assert (outcome.verdict, outcome.name) == ("ack", "refused")
    letters = await road.fetch("select * from dead_letters")
    assert [(row["origin"], row["code"], row["failures"]) for row in letters] == [
        ("message", "MALFORMED_NOTIFICATION", 3)
    ]
    assert "objectId" in letters[0]["message"]
    assert letters[0]["body"] == b"\xff\x00"


async def test_a_lost_notification_is_found_by_a_recover_run(road: Road) -> None:
    """Uploads, overwrites and deletions nobody heard of are brought home by comparing bucket and index."""
    for name in ("kept.txt", "changed.txt", "gone.txt"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    await road.work_off()
    road.bucket.put("changed.txt", b"changed")
    road.bucket.put("missed.txt", b"missed")
    road.bucket.remove("gone.txt")
    summary = await road.recover()
    assert summary["ok"]
    counts = summary["duties"]["reconcile"]
    assert {key: counts[key] for key in ("missing", "stale", "orphan", "failed")} == {
        "missing": 1,
        "stale": 1,
        "orphan": 1,
        "failed": 0,
    }
    await road.work_off()
    assert await road.in_step()
    again = (await road.recover())["duties"]["reconcile"]
    assert again["missing"] + again["stale"] + again["orphan"] == 0


async def test_old_chunks_stay_found_until_the_new_ones_are_complete(road: Road) -> None:
    """While a new generation is worked on, the old text is visible; it is replaced in one step."""
    road.bucket.put("a.txt", b"old")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"new")
    await road.notify("a.txt")
    seen: list[list[str]] = []

    async def look(*_: object, **__: object) -> None:
        seen.append(await road.visible("a.txt"))

    embed = road.embedder.embed

    async def watched(*arguments: object, **named: object) -> object:
        await look()
        return await embed(*arguments, **named)

    road.embedder.embed = watched
    await road.work_off()
    assert seen == [["old"]]
    assert await road.visible("a.txt") == ["new"]


async def test_a_failed_overwrite_withdraws_the_older_text(road: Road) -> None:
    """When the live generation cannot be indexed, what the older one said is no longer found."""
    road.bucket.put("a.txt", b"old")
    await road.notify("a.txt")
    await road.work_off()
    road.bucket.put("a.txt", b"")
    await road.notify("a.txt")
    await road.work_off()
    assert await road.visible("a.txt") == []
    job = (await road.fetch("select * from document_processing_jobs order by created_at desc limit 1"))[0]
    assert (job["status"], job["error_code"], job["attempts"]) == (Status.FAILED, "NO_TEXT", 1)


async def test_a_generation_that_vanished_is_superseded_and_decided_anew(road: Road) -> None:
    """A download that finds another generation is no failure: the job is cancelled and the newer one indexed."""
    road.bucket.put("a.txt", b"old")
    await road.notify("a.txt")
    road.bucket.put("a.txt", b"new")  # its notification is lost
    assert (await road.ring()).name == "superseded"
    await road.work_off()
    assert await road.visible("a.txt") == ["new"]
    statuses = await road.fetch("select status from document_processing_jobs order by created_at")
    assert [row["status"] for row in statuses] == ["cancelled", "completed"]
