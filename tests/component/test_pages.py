"""Scanned files on their road through a model that reads pages: text and places, cost, refusals, waits and deaths."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp import web

from tests.plugins import scans
from tests.plugins.desk import PAGE_MICROS, PAGE_TOKENS, SDK_WARNING, Desk, said, without_sense
from tests.plugins.model_server import Answer, Call, ModelServer, good, rate_limited, reading, refused

pytestmark = SDK_WARNING

FILES = Path(__file__).parents[1] / "files"


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


async def test_a_picture_that_the_service_calls_wrong_is_read_by_ocr_and_flagged(desk: Desk) -> None:
    """400 about one page, not about a blank one: what was paid for the others stays, and the file is completed."""
    desk.model.read = lambda _: "A page, perhaps a blank one."
    desk.answers_to_pages(good, refused(400))
    await desk.put("scan.pdf", (FILES / "pdf" / "img2pdf-scan.pdf").read_bytes())
    job = await desk.job()
    assert (job["status"], job["result"]["refused_pages"]) == ("completed", {"IMAGE_REFUSED": [2]})
    assert (job["pages_read"], job["page_cost_micros"]) == (2, 2 * PAGE_MICROS)
    assert "queue in lane four" in " ".join((await desk.places("scan.pdf"))[1][1].split())


async def test_a_request_that_is_wrong_for_every_picture_ends_the_file_soon(desk: Desk) -> None:
    """Nor is a blank page read: the way we ask is wrong, and the job says so after two calls."""
    desk.answers_to_pages(*[refused(400)] * 9)
    await desk.put("scan.pdf", scans.file("pdf", (4, 2, 7)))
    job = await desk.job()
    assert (job["status"], job["error_code"], len(desk.model.calls)) == ("failed", "INVALID_REQUEST", 2)
    assert job["error_message"].startswith("Page 1: ")


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
