"""Files that Storage did not show for a moment, and that are there again: found again, and not paid for again."""

from shared.model.job import Stage, Status, move_is_legal
from tests.plugins import verdict
from tests.plugins.road import Road


async def test_a_generation_that_was_taken_for_gone_is_indexed_again(road: Road) -> None:
    """One answer of Storage says that it is gone, the next that it is there: found again, and not paid for again."""
    road.bucket.put("a.txt", b"alpha\nbeta")
    await road.notify("a.txt")
    await road.work_off()
    there = dict(road.bucket.objects)
    road.bucket.objects.clear()
    assert (await road.notify("a.txt", "OBJECT_DELETE")).name == "done"
    assert await road.value("select count(*) from chunks") == 0
    road.bucket.objects |= there
    assert (await road.notify("a.txt")).name == "done"
    assert await road.work_off() == 1
    assert await road.in_step()
    assert sorted(road.embedder.texts) == ["alpha", "beta"]
    job = (await road.fetch("select * from document_processing_jobs"))[0]
    assert (job["status"], job["progress_done"], job["progress_total"], job["attempts"]) == ("completed", 2, 2, 1)
    await verdict.ledgers_are_legal(road)
    ledger = await road.fetch("select seq, status from job_events order by seq")
    assert [row["seq"] for row in ledger] == list(range(1, len(ledger) + 1))
    ends = [row["status"] for row in ledger if row["status"] in {"pending", "completed"}]
    assert ends == ["pending", "completed", "pending", "completed"]


async def test_a_bucket_that_was_away_comes_home_in_one_recover_run(road: Road) -> None:
    """A wrong endpoint makes everything an orphan; with the right one all is found again, and then is left alone."""
    for name in ("a.txt", "b.txt"):
        road.bucket.put(name, name.encode())
        await road.notify(name)
    await road.work_off()
    there = dict(road.bucket.objects)
    road.bucket.objects.clear()
    assert (await road.recover())["duties"]["reconcile"]["orphan"] == 2
    road.bucket.objects |= there
    counts = (await road.recover())["duties"]["reconcile"]
    assert (counts["missing"], counts["repaired"]) == (2, 2)
    await road.work_off()
    assert await road.in_step()
    assert (await road.recover())["duties"]["reconcile"]["missing"] == 0


def test_a_completed_job_goes_nowhere_but_back_to_the_queue() -> None:
    """It does not fail, is not cancelled, and is not taken by a worker without being put back first."""
    moves = {
        (status, stage)
        for status in Status
        for stage in Stage
        if move_is_legal(Status.COMPLETED, Stage.COMPLETED, status, stage)
    }
    assert moves == {(Status.PENDING, Stage.PENDING)}
