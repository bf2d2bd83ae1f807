"""A scanned file in real processes: read by a model page by page, also when the worker is killed between two pages."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from tests.plugins import scans
from tests.plugins.model_server import IMAGE_TOKENS, READING_TOKENS, Call, ModelServer, good
from tests.plugins.stack import Site

PAGE_MICROS = IMAGE_TOKENS * 3 + READING_TOKENS * 25
PRICES = {"gemini-embedding-001": 0.15, "gemini-2.5-flash": 3, "gemini-2.5-flash:output": 25}
LEASE_SECONDS = 60


@pytest.mark.slow  # the same without processes: tests/component/test_pages.py
async def test_pages_that_were_read_before_a_kill_are_not_asked_about_again(site: Site, model: ModelServer) -> None:
    """Kill -9 while the model looks at page 3 of 4: the next worker asks about pages 3 and 4, and about no other."""
    model.read = lambda image: f"This page shows {scans.bars(image)} bars."
    third = asyncio.Event()

    async def answer(server: ModelServer, call: Call) -> web.StreamResponse:
        if call.image is not None and scans.bars(call.image) == 3 and not third.is_set():
            third.set()
            await server.released.wait()
        return await good(server, call)

    model.answer = answer
    said = model.environment() | {"READ_IMAGES": "gemini", "MODEL_PRICES": json.dumps(PRICES)}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.process("services.ingest"))
        first = await stack.enter_async_context(site.process("services.process", **said))
        await site.upload("scan.pdf", scans.file("pdf", (1, 2, 3, 4)))
        async with asyncio.timeout(60):
            await third.wait()
        await first.child.kill9()
        read = list(model.images)
        await site.shift_clock(LEASE_SECONDS + 1)
        await site.recover_once()
        await stack.enter_async_context(site.process("services.process", **said))
        (job,) = await site.ended("scan.pdf")
    assert read == [f"This page shows {number} bars." for number in (1, 2)]
    assert model.images[len(read) :] == [f"This page shows {number} bars." for number in (3, 4)]
    assert (job["status"], job["rescue_count"], job["pages_read"]) == ("completed", 1, 4)
    assert (job["page_cost_micros"], job["model_calls"]) == (4 * PAGE_MICROS, 4 + 1)
    chunks = [(json.loads(locator)["page"], text) for _, text, locator in await site.chunks(job["id"])]
    assert chunks == [(number, f"This page shows {number} bars.") for number in (1, 2, 3, 4)]
