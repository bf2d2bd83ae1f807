"""Several versions of one file at work at once: what is shown never goes back."""

import pytest

from shared.errors import LeaseLost
from shared.ids import text_hash
from shared.model.document import Chunk
from shared.model.job import Job, Lane
from shared.model.locator import Locator, LocatorKind
from shared.ports.stores import Failure
from shared.postgres.jobs import PostgresWorkQueue
from tests.plugins.road import Road

BOOM = Failure(code="BOOM", message="It went wrong.")


async def version(road: Road, number: int) -> Job:
    """Overwrite the file; return the job of this version, which this test works on."""
    road.bucket.put("a.txt", f"version {number}".encode())
    await road.notify("a.txt")
    job = await road.queue.claim(Lane.INTERACTIVE, worker="w")
    assert job is not None
    return job


async def versions(road: Road, last: int) -> dict[int, Job]:
    """Overwrite the file from version 1 on, while each version is worked on: from the 4th on, each may finish."""
    return {number: await version(road, number) for number in range(1, last + 1)}


async def finish(road: Road, job: Job, text: str) -> None:
    """Commit a job's only passage, and complete it."""
    chunk = Chunk(ordinal=0, text=text, locator=Locator(kind=LocatorKind.PAGE, page=1), text_hash=text_hash(text))
    await road.queue.add_chunks(job.lease, [chunk], checkpoint={"extracted": True})
    vectors = [(chunk.text_hash, [0.5] * 8)]
    await road.queue.add_embeddings(job.lease, road.embedder.space, vectors, tokens=1, calls=1)
    await road.queue.complete(job.lease, road.embedder.space, result={})


async def test_of_two_versions_that_may_finish_the_older_one_never_comes_last(road: Road) -> None:
    """Version 5 is complete before version 4, and neither is live: version 4 ends, and 5 stays until 6 is there."""
    jobs = await versions(road, 6)
    rows = await road.fetch("select id from document_processing_jobs where may_finish and status = 'processing'")
    assert {row["id"] for row in rows} == {jobs[4].id, jobs[5].id}
    await finish(road, jobs[5], "version 5")
    with pytest.raises(LeaseLost):
        await finish(road, jobs[4], "version 4")
    rows = await road.fetch("select status, error_code from document_processing_jobs where id = $1", jobs[4].id)
    assert rows == [("cancelled", "SUPERSEDED")]
    assert await road.visible("a.txt") == ["version 5"]
    await finish(road, jobs[6], "version 6")
    assert await road.in_step()
    assert await road.value("select count(*) from chunks") == 1


@pytest.mark.parametrize("described", [False, True], ids=["", "described meanwhile"])
async def test_versions_that_may_finish_are_shown_in_their_order(road: Road, described: bool) -> None:
    """Version 4, then 5, then 6: a file that changes all the time is shown as new as it can be, at every moment."""
    jobs = await versions(road, 6)
    if described:
        road.bucket.describe("a.txt", note="new")
        await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    for number in (4, 5, 6):
        await finish(road, jobs[number], f"version {number}")
        assert await road.visible("a.txt") == [f"version {number}"]
    assert await road.in_step()


@pytest.mark.parametrize("described", [False, True], ids=["", "described meanwhile"])
async def test_an_older_version_does_not_resolve_the_letter_of_the_live_one(road: Road, described: bool) -> None:
    """With ON_FAILED_OVERWRITE=keep the older one is shown; that the live one failed still waits for a person."""
    road.queue = PostgresWorkQueue(road.database, withdraw_on_failure=False)
    jobs = await versions(road, 5)
    await road.queue.fail(jobs[5].lease, BOOM)
    if described:
        road.bucket.describe("a.txt", note="new")
        await road.notify("a.txt", "OBJECT_METADATA_UPDATE")
    await finish(road, jobs[4], "version 4")
    assert await road.visible("a.txt") == ["version 4"]
    assert await road.fetch("select job_id, state from dead_letters") == [(jobs[5].id, "open")]


async def test_an_older_version_resolves_the_letters_of_those_before_it(road: Road) -> None:
    """What failed before a version that is shown by now needs nobody any more, although a newer one is at work."""
    road.queue = PostgresWorkQueue(road.database, withdraw_on_failure=False)
    jobs = {1: await version(road, 1)}
    await road.queue.fail(jobs[1].lease, BOOM)
    jobs |= {number: await version(road, number) for number in range(2, 7)}
    await finish(road, jobs[5], "version 5")
    assert await road.fetch("select job_id, state from dead_letters") == [(jobs[1].id, "resolved")]
