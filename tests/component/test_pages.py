"""Scanned files on their road through a model that reads pages: text and places, cost, refusals, waits and deaths.

The model is asked through the real SDK; the pages come out of the real child process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.process.document import IndexDocument
from services.process.extract.extractor import ChildExtractor
from services.process.extract.reading import PicturesFirst
from services.process.pictures import PageReading
from services.process.purse import Purse
from shared.clock import SystemClock
from shared.embedding.gemini import GeminiAccess
from shared.embedding.metered_reader import MeteredReader
from shared.embedding.vision import GeminiReader
from shared.model.document import ObjectRef
from shared.model.price import Prices
from shared.postgres.budgets import PostgresBudgets
from tests.fakes import BUCKET
from tests.plugins import scans
from tests.plugins.clock import ManualClock
from tests.plugins.model_server import (
    IMAGE_TOKENS,
    READING_TOKENS,
    Answer,
    Call,
    ModelServer,
    good,
    rate_limited,
    reading,
    refused,
)
from tests.plugins.road import Road

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

FILES = Path(__file__).parents[1] / "files"
MODEL = "gemini-2.5-flash"
PRICES = Prices({MODEL: 3.0, f"{MODEL}:output": 25.0})
PAGE_MICROS = IMAGE_TOKENS * 3 + READING_TOKENS * 25
PAGE_TOKENS = IMAGE_TOKENS + READING_TOKENS


@dataclass
class Desk:
    """A road whose work asks a model about pages."""

    road: Road
    model: ModelServer
    budgets: PostgresBudgets
    clock: ManualClock
    """The model's waits go by it."""

    async def put(self, name: str, content: bytes) -> None:
        """Upload a file and let it be worked on."""
        self.road.bucket.put(name, content)
        await self.road.notify(name)
        await self.road.work_off()

    async def job(self) -> dict[str, Any]:
        """Return the only job."""
        (row,) = await self.road.fetch("select * from document_processing_jobs")
        return dict(row)

    async def jobs(self) -> dict[str, dict[str, Any]]:
        """Return the newest job of each file."""
        rows = await self.road.fetch("select * from document_processing_jobs order by created_at")
        return {row["name"]: dict(row) for row in rows}

    async def places(self, name: str) -> list[tuple[int, str]]:
        """Return page and text of what is found of a file."""
        found = await self.road.fetch(
            "select (locator ->> 'page')::int as page, text from documents d join chunks c on c.job_id = d.live_job_id "
            "where name = $1 order by ordinal",
            name,
        )
        return [(row["page"], row["text"]) for row in found]

    def answers_to_pages(self, *answers: Answer) -> None:
        """Answer the next questions about pages so, then well; texts always get their vectors."""
        left = list(answers)

        async def answer(server: ModelServer, call: Call) -> web.StreamResponse:
            return await (left.pop(0) if left and call.image is not None else good)(server, call)

        self.model.answer = answer


@pytest.fixture
async def desk(road: Road, model: ModelServer, tmp_path: Path) -> AsyncIterator[Desk]:
    """Give a road with a child process and a model; pages say how many bars they show."""
    model.read = lambda image: f"This page shows {scans.bars(image)} bars."
    async with AsyncExitStack() as stack:
        child = await stack.enter_async_context(ChildExtractor(work_dir=tmp_path))
        access = GeminiAccess(api_key="k", base_url=model.url)
        clock = ManualClock()
        plain = await stack.enter_async_context(GeminiReader(access, model=MODEL, clock=clock))
        reader = MeteredReader(plain, metrics=road.metrics, clock=SystemClock(), prices=PRICES)
        budgets = PostgresBudgets(road.database)
        road.work = IndexDocument(
            queue=road.queue,
            storage=road.bucket,
            extractor=PicturesFirst(child, reader),
            embedder=road.embedder,
            tracing=road.tracing,
            metrics=road.metrics,
            clock=SystemClock(),
            max_object_bytes=1 << 24,
            prices=PRICES,
            spending=budgets,
            temp_dir=str(tmp_path),
            pages=PageReading(
                reader,
                ocr=child,
                queue=road.queue,
                purse=Purse(budgets, road.metrics),
                prices=PRICES,
                temp_dir=str(tmp_path),
            ),
            files_read=road.queue,
        )
        road.process = road.worker("worker")
        yield Desk(road, model, budgets, clock)
    assert list(tmp_path.iterdir()) == []


def said(*numbers: int) -> list[str]:
    """Return what the model says of pages."""
    return [f"This page shows {number} bars." for number in numbers]


def without_sense() -> Answer:
    """Answer with prose where the form was asked for."""

    async def answer(_server: ModelServer, _call: Call) -> web.StreamResponse:
        return reading("It is a page with bars.")

    return answer


def refusing() -> Answer:
    """Refuse to reproduce what is there."""

    async def answer(_server: ModelServer, _call: Call) -> web.StreamResponse:
        return reading("", reason="RECITATION")

    return answer


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("pdf", (4, 2, 7)),
        ("tiff", (3, 5)),
        ("gif", (6,)),
        pytest.param("bmp", (1,), marks=pytest.mark.slow),
        pytest.param("png", (2,), marks=pytest.mark.slow),
    ],
)
async def test_scans_are_found_by_page_and_their_cost_is_on_the_job(
    desk: Desk, kind: str, numbers: tuple[int, ...]
) -> None:
    """Each page is asked about once and in order; calls, tokens and money are in the row, the ledger and the budget."""
    await desk.put(f"scan.{kind}", scans.file(kind, numbers))
    assert await desk.places(f"scan.{kind}") == list(enumerate(said(*numbers), 1))
    assert desk.model.images == said(*numbers)
    job, pages = await desk.job(), len(numbers)
    texts = sum(len(text.split()) for text in said(*numbers))
    assert (job["status"], job["pages_read"], job["page_tokens"]) == ("completed", pages, pages * PAGE_TOKENS)
    assert (job["model_calls"], job["tokens_used"]) == (pages + 1, pages * PAGE_TOKENS + texts)
    assert job["cost_micros"] == job["page_cost_micros"] == pages * PAGE_MICROS
    assert (job["tokens_saved"], job["result"]) == (0, {"embedded_texts": pages})
    (end,) = await desk.road.fetch("select detail from job_events where status = 'completed'")
    assert end["detail"]["pages_read"] == pages
    counted = re.findall(
        r"^headrace_model_tokens_total\S*kind=\"spent\"\S* ([\d.]+)", desk.road.metrics.text(), re.MULTILINE
    )
    assert sum(map(float, counted)) == pages * PAGE_TOKENS
    (today,) = await desk.budgets.today()
    assert today.spent_micros == pages * PAGE_MICROS


async def test_too_many_calls_put_a_file_off_and_what_was_read_stays(desk: Desk) -> None:
    """The job waits as long as it is told to, uncharged; then it goes on with the page that was refused."""
    desk.answers_to_pages(good, rate_limited(30))
    await desk.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    job = await desk.job()
    assert (job["status"], job["deferred_reason"], job["attempts"]) == ("pending", "RATE_LIMITED", 0)
    assert (job["pages_read"], job["page_cost_micros"], job["model_calls"]) == (1, PAGE_MICROS, 2)
    await desk.road.shift_clock(3600)
    desk.clock.advance(3600)
    await desk.road.work_off()
    assert await desk.places("scan.pdf") == list(enumerate(said(4, 2, 7), 1))
    assert desk.model.images == said(4, 2, 7)


async def test_an_answer_without_sense_is_asked_for_once_more(desk: Desk) -> None:
    """The second answer counts, and both are paid."""
    desk.answers_to_pages(good, without_sense())
    await desk.put("scan.tiff", scans.file("tiff", (3, 5)))
    job = await desk.job()
    assert (job["status"], job["pages_read"], job["model_calls"]) == ("completed", 2, 4)
    assert job["cost_micros"] == 3 * PAGE_MICROS
    assert await desk.places("scan.tiff") == list(enumerate(said(3, 5), 1))


async def test_two_answers_without_sense_fail_the_file_with_its_page(desk: Desk) -> None:
    """It is not asked a third time, and the job says what it cost."""
    desk.answers_to_pages(good, without_sense(), without_sense())
    await desk.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    job = await desk.job()
    assert (job["status"], job["error_code"], job["attempts"]) == ("failed", "ANSWER_INVALID", 1)
    assert job["error_message"].startswith("Page 2: ")
    assert (len(desk.model.calls), job["model_calls"], job["cost_micros"]) == (3, 3, 3 * PAGE_MICROS)
    (today,) = await desk.budgets.today()
    assert today.spent_micros == 3 * PAGE_MICROS


async def test_a_page_that_the_model_refuses_is_read_by_ocr_and_flagged(desk: Desk) -> None:
    """The other pages are the model's; result and ledger name the page and why, and the refusal is paid."""
    desk.answers_to_pages(good, refusing())
    await desk.put("scan.pdf", (FILES / "pdf" / "img2pdf-scan.pdf").read_bytes())
    job = await desk.job()
    assert (job["status"], job["pages_read"], job["page_cost_micros"]) == ("completed", 2, 2 * PAGE_MICROS)
    assert job["result"]["refused_pages"] == {"CONTENT_BLOCKED": [2]}
    (end,) = await desk.road.fetch("select detail from job_events where status = 'completed'")
    assert end["detail"]["refused_pages"] == {"CONTENT_BLOCKED": [2]}
    (first, second) = await desk.places("scan.pdf")
    assert first[0] == 1
    assert first[1].startswith("This page shows")
    assert second[0] == 2
    assert "queue in lane four" in " ".join(second[1].split())


@pytest.mark.slow  # OCR looks for words in bars from all four sides
async def test_a_file_of_which_nothing_is_left_fails_with_the_refusal(desk: Desk) -> None:
    """Neither the model nor OCR has a word of it: the code is the model's."""
    desk.answers_to_pages(refusing())
    await desk.put("scan.gif", scans.file("gif", (3,)))
    job = await desk.job()
    assert (job["status"], job["error_code"]) == ("failed", "CONTENT_BLOCKED")
    assert "page 1" in job["error_message"]
    assert (job["pages_read"], job["cost_micros"]) == (1, PAGE_MICROS)


async def test_an_image_of_nothing_has_no_text(desk: Desk) -> None:
    """The model sees nothing that could be found; that it was asked is paid and counted."""
    desk.model.read = lambda _image: " "
    await desk.put("scan.png", scans.file("png", (3,)))
    job = await desk.job()
    assert (job["status"], job["error_code"], job["pages_read"]) == ("failed", "NO_TEXT", 1)
    assert job["cost_micros"] == PAGE_MICROS


async def test_a_key_that_is_refused_ends_the_file_after_one_call(desk: Desk) -> None:
    """No page after the first is asked about."""
    desk.answers_to_pages(refused(403))
    await desk.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    job = await desk.job()
    assert (job["status"], job["error_code"], len(desk.model.calls)) == ("failed", "AUTHENTICATION_FAILED", 1)


async def test_a_budget_puts_pages_off_and_none_is_paid_twice(desk: Desk) -> None:
    """What was expected of a page is corrected by what it cost; with more money the file goes on where it stopped."""
    await desk.budgets.set("acme", PAGE_MICROS)
    await desk.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    job = await desk.job()
    assert (job["status"], job["deferred_reason"], job["pages_read"]) == ("pending", "BUDGET_EXHAUSTED", 1)
    (today,) = await desk.budgets.today()
    assert (today.spent_micros, today.waiting_jobs) == (PAGE_MICROS, 1)
    await desk.budgets.set("acme", 100 * PAGE_MICROS)
    await desk.road.work_off()
    assert desk.model.images == said(4, 2, 7)
    job = await desk.job()
    assert (job["status"], job["cost_micros"]) == ("completed", 3 * PAGE_MICROS)


async def test_a_successor_asks_only_about_pages_that_are_not_stored(desk: Desk) -> None:
    """The worker dies while the model looks at page 3; pages 1 and 2 are neither asked about nor paid again."""
    third = asyncio.Event()

    async def hang(server: ModelServer, _call: Call) -> web.StreamResponse:
        third.set()
        await server.released.wait()
        return web.Response(status=503)

    desk.answers_to_pages(good, good, hang)
    desk.road.bucket.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    await desk.road.notify("scan.pdf")
    dying = asyncio.create_task(desk.road.ring())
    async with asyncio.timeout(60):
        await third.wait()
    dying.cancel()
    await asyncio.wait([dying])
    job = await desk.job()
    assert (job["status"], job["pages_read"], job["page_cost_micros"]) == ("pending", 2, 2 * PAGE_MICROS)
    await desk.road.work_off()
    assert desk.model.images == said(4, 2, 7)
    assert await desk.places("scan.pdf") == list(enumerate(said(4, 2, 7), 1))
    job = await desk.job()
    assert (job["status"], job["pages_read"], job["cost_micros"]) == ("completed", 3, 3 * PAGE_MICROS)


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
