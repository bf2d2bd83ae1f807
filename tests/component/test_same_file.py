"""One file under many names: a model reads it once, whatever becomes of the job that has it read."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from aiohttp import web

from services.process.pictures import READING_VERSION
from shared.model.document import ObjectRef
from shared.model.job import Lane
from shared.ports.stores import Failure, Scope
from tests.fakes import BUCKET
from tests.plugins import scans
from tests.plugins.desk import MODEL, OTHER_MODEL, PAGE_MICROS, SDK_WARNING, Desk, said, without_sense
from tests.plugins.model_server import Call, ModelServer, good, rate_limited

pytestmark = SDK_WARNING


async def test_a_file_under_ten_names_is_read_once(desk: Desk) -> None:
    """The others have the same passages at the same places, pay nothing, and say what they saved."""
    content = scans.file("pdf", (4, 2, 7))
    for number in range(10):
        await desk.put(f"{number}.pdf", content)
    assert desk.model.images == said(4, 2, 7)
    assert len(desk.model.calls) == 3
    jobs = await desk.jobs()
    for number in range(1, 10):
        assert await desk.places(f"{number}.pdf") == list(enumerate(said(4, 2, 7), 1))
        job = jobs[f"{number}.pdf"]
        assert (job["status"], job["model_calls"], job["cost_micros"]) == ("completed", 0, 0)
        assert job["cost_saved_micros"] == 3 * PAGE_MICROS
        assert job["tokens_saved"] == sum(len(text.split()) for text in said(4, 2, 7))


async def test_a_file_that_is_being_read_is_waited_for(desk: Desk) -> None:
    """The second worker asks nothing and charges no attempt; when the first is done, its passages are taken over."""
    third = asyncio.Event()

    async def hang(server: ModelServer, call: Call) -> web.StreamResponse:
        third.set()
        await server.released.wait()
        return await good(server, call)

    desk.answers_to_pages(good, good, hang)
    content = scans.file("pdf", (4, 2, 7))
    for name in ("a.pdf", "b.pdf"):
        desk.road.bucket.put(name, content)
        await desk.road.notify(name)
    first = asyncio.create_task(desk.road.ring())
    async with asyncio.timeout(60):
        await third.wait()
    await desk.road.ring()
    waiting = (await desk.jobs())["b.pdf"]
    assert (waiting["status"], waiting["deferred_reason"], waiting["attempts"]) == (
        "pending",
        "SAME_FILE_BEING_READ",
        0,
    )
    desk.model.released.set()
    await first
    await desk.road.shift_clock(60)
    await desk.road.work_off()
    assert desk.model.images == said(4, 2, 7)
    assert await desk.places("b.pdf") == await desk.places("a.pdf") == list(enumerate(said(4, 2, 7), 1))


async def test_a_file_that_waits_for_a_budget_is_waited_for_as_long(desk: Desk) -> None:
    """Both go on with a larger one, the first where it stopped."""
    await desk.budgets.set("acme", PAGE_MICROS)
    content = scans.file("pdf", (4, 2, 7))
    for name in ("a.pdf", "b.pdf"):
        await desk.put(name, content)
    assert [job["deferred_reason"] for job in (await desk.jobs()).values()] == ["BUDGET_EXHAUSTED"] * 2
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.road.work_off()
    await desk.road.shift_clock(60)
    await desk.road.work_off()
    assert desk.model.images == said(4, 2, 7)
    assert {job["status"] for job in (await desk.jobs()).values()} == {"completed"}


@pytest.mark.parametrize("end", ["failed", "deleted", "belongs to others"])
async def test_a_file_whose_passages_are_not_there_is_read_again(desk: Desk, end: str) -> None:
    """The first one failed, or is gone, or is nobody's business."""
    content = scans.file("tiff", (3, 5))
    if end == "failed":
        desk.answers_to_pages(good, without_sense(), without_sense())
    await desk.put("a.tiff", content)
    if end == "deleted":
        await desk.road.bucket.delete(ObjectRef(BUCKET, "a.tiff"))
        await desk.road.notify("a.tiff", "OBJECT_DELETE")
    if end == "belongs to others":
        await desk.road.fetch("update files_read set organization_id = 'zenith'")
    desk.model.images.clear()
    await desk.put("b.tiff", content)
    assert await desk.places("b.tiff") == list(enumerate(said(3, 5), 1))
    assert desk.model.images == said(3, 5)


async def test_passages_that_vanish_while_they_are_taken_over_are_read_again(desk: Desk) -> None:
    """The claim is a place in a line, not a promise: without passages it passes on."""
    content = scans.file("tiff", (3, 5))
    await desk.put("a.tiff", content)
    await desk.road.fetch("delete from chunks")
    desk.model.images.clear()
    await desk.put("b.tiff", content)
    assert desk.model.images == said(3, 5)
    owner = await desk.road.value("select name from files_read join document_processing_jobs job on job.id = job_id")
    assert owner == "b.tiff"


DAY_SECONDS = 86_400


@pytest.mark.parametrize("end", ["deleted", "overwritten", "cancelled"])
async def test_a_job_that_waited_for_a_budget_and_was_cancelled_is_waited_for_no_more(desk: Desk, end: str) -> None:
    """Its place in the line passes on, although it never came to its end of the wait."""
    await desk.budgets.set("acme", PAGE_MICROS)
    content = scans.file("pdf", (4, 2))
    await desk.put("a.pdf", content)
    (waiting,) = (await desk.jobs()).values()
    assert waiting["deferred_reason"] == "BUDGET_EXHAUSTED"
    if end == "deleted":
        await desk.road.bucket.delete(ObjectRef(BUCKET, "a.pdf"))
        await desk.road.notify("a.pdf", "OBJECT_DELETE")
    elif end == "overwritten":
        desk.road.bucket.put("a.pdf", scans.file("pdf", (1,)))
        await desk.road.notify("a.pdf")
    else:
        await desk.road.directory.cancel(waiting["id"], Scope())
    (cancelled,) = await desk.road.fetch("select * from document_processing_jobs where id = $1", waiting["id"])
    assert (cancelled["status"], cancelled["deferred_reason"]) == ("cancelled", None)
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.put("b.pdf", content)
    assert await desk.places("b.pdf") == list(enumerate(said(4, 2), 1))


async def test_a_cancelled_job_that_still_names_its_wait_blocks_nobody(desk: Desk) -> None:
    """Rows that an older version cancelled keep the reason; who asks for the same bytes is not held up by it."""
    await desk.budgets.set("acme", PAGE_MICROS)
    content = scans.file("pdf", (4, 2))
    await desk.put("a.pdf", content)
    await desk.road.directory.cancel((await desk.job())["id"], Scope())
    await desk.road.fetch("update document_processing_jobs set deferred_reason = 'BUDGET_EXHAUSTED'")
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.put("b.pdf", content)
    assert await desk.places("b.pdf") == list(enumerate(said(4, 2), 1))


async def test_a_job_whose_budget_is_back_is_waited_for_as_one_that_reads(desk: Desk) -> None:
    """It is due, and other work goes first: its copies come back at growing distances, not each second for ever."""
    await desk.budgets.set("acme", PAGE_MICROS)
    content = scans.file("pdf", (4, 2))
    await desk.put("a.pdf", content)
    await desk.road.fetch("update document_processing_jobs set lane = 'bulk'")
    await desk.road.shift_clock(DAY_SECONDS)
    desk.road.bucket.put("b.pdf", content)
    await desk.road.notify("b.pdf")
    await desk.road.ring(Lane.INTERACTIVE)
    assert (await desk.jobs())["b.pdf"]["deferred_reason"] == "SAME_FILE_BEING_READ"
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.road.work_off()
    await desk.road.shift_clock(DAY_SECONDS + 60)
    await desk.road.work_off()
    assert await desk.places("b.pdf") == await desk.places("a.pdf") == list(enumerate(said(4, 2), 1))
    assert desk.model.images == said(4, 2)


async def half_read(desk: Desk, name: str, content: bytes) -> None:
    """Have the first page read, in two passages, and the job put off for half an hour before the second."""
    desk.model.read = lambda image: f"An older reader counts {scans.bars(image)} bars. " + " ".join(["bar"] * 250)
    desk.answers_to_pages(good, rate_limited(1800))
    await desk.put(name, content)
    job = await desk.job()
    assert (job["deferred_reason"], job["pages_read"], job["checkpoint"]["chunks"]) == ("RATE_LIMITED", 1, 2)
    desk.model.read = lambda image: f"This page shows {scans.bars(image)} bars."
    desk.answers_to_pages()
    desk.model.images.clear()
    await desk.read_with(OTHER_MODEL)


async def test_passages_of_another_reader_make_way_for_those_that_are_taken_over(desk: Desk) -> None:
    """A job that began with another model has all passages of the one that read the file, and none of its own."""
    content = scans.file("pdf", (4, 2, 7))
    await half_read(desk, "a.pdf", content)
    await desk.put("b.pdf", content)
    assert desk.model.images == said(4, 2, 7)
    await desk.road.shift_clock(3600)
    desk.clock.advance(3600)
    await desk.road.work_off()
    assert await desk.places("a.pdf") == await desk.places("b.pdf") == list(enumerate(said(4, 2, 7), 1))
    assert desk.model.images == said(4, 2, 7)
    job = (await desk.jobs())["a.pdf"]
    assert (job["status"], job["page_cost_micros"], job["cost_saved_micros"]) == (
        "completed",
        PAGE_MICROS,
        2 * PAGE_MICROS,
    )


async def test_what_was_read_stays_when_there_is_nothing_to_take_over(desk: Desk) -> None:
    """The other job's passages are gone at that moment: the file is read on from where it was, by the new model."""
    content = scans.file("pdf", (4, 2, 7))
    await half_read(desk, "a.pdf", content)
    await desk.put("b.pdf", content)
    await desk.road.fetch("delete from chunks using documents d where d.live_job_id = chunks.job_id")
    desk.model.images.clear()
    await desk.road.shift_clock(3600)
    desk.clock.advance(3600)
    await desk.road.work_off()
    assert desk.model.images == said(2, 7)
    pages = await desk.places("a.pdf")
    assert [page for page, _ in pages] == [1, 1, 2, 3]
    assert [text for _, text in pages[2:]] == said(2, 7)


HOUR_SECONDS = 3600


async def test_a_file_that_is_read_for_more_than_a_day_is_waited_for(desk: Desk) -> None:
    """Its copy has no bound of its own, and when the reading ends without passages it has all its patience for that."""
    content = scans.file("pdf", (4, 2))
    desk.answers_to_pages(good)
    for name in ("a.pdf", "b.pdf"):
        desk.road.bucket.put(name, content)
        await desk.road.notify(name)
    reader = await desk.road.queue.claim(Lane.INTERACTIVE, worker="slow")
    assert reader is not None
    file = {"content_sha256": hashlib.sha256(content).hexdigest(), "reader": f"{MODEL}/{READING_VERSION}/256"}
    assert await desk.road.queue.claim_file(reader.lease, **file) is None
    for hours in (0, 13, 26):
        await desk.road.shift_clock(hours * HOUR_SECONDS)
        await desk.road.queue.renew(reader.lease)
        await desk.road.ring()
        waiting = (await desk.jobs())["b.pdf"]
        assert (waiting["status"], waiting["deferred_reason"]) == ("pending", "SAME_FILE_BEING_READ"), hours
    await desk.road.queue.fail(reader.lease, Failure(code="NO_TEXT", message="There is none."))
    desk.answers_to_pages(rate_limited(1800))
    await desk.road.shift_clock(27 * HOUR_SECONDS)
    await desk.road.work_off()
    assert (await desk.jobs())["b.pdf"]["deferred_reason"] == "RATE_LIMITED"
    await desk.road.shift_clock(28 * HOUR_SECONDS)
    desk.clock.advance(HOUR_SECONDS)
    await desk.road.work_off()
    assert await desk.places("b.pdf") == list(enumerate(said(4, 2), 1))


async def test_nobody_waits_for_the_budget_of_those_who_have_the_file_by_now(desk: Desk) -> None:
    """A file that was given away while it waited is read for its new owner; the former one's copies go ahead."""
    await desk.budgets.set("acme", PAGE_MICROS)
    content = scans.file("pdf", (4, 2))
    await desk.put("a.pdf", content)
    assert (await desk.job())["deferred_reason"] == "BUDGET_EXHAUSTED"
    desk.road.bucket.describe("a.pdf", organization_id="beta")
    await desk.road.notify("a.pdf", "OBJECT_METADATA_UPDATE")
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.put("b.pdf", content)
    assert await desk.places("b.pdf") == list(enumerate(said(4, 2), 1))
    assert (await desk.jobs())["a.pdf"]["deferred_reason"] == "BUDGET_EXHAUSTED"
