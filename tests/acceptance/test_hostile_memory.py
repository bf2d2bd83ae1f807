"""The memory of a real process service with its children: bounded for a long document, flat over many files."""

from __future__ import annotations

import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from tests.plugins import memory
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site

MEGABYTE = 1024 * 1024
PAGES, ROUNDS = 300, 2


@pytest.mark.slow
async def test_a_long_pdf_is_indexed_in_bounded_memory(site: Site, model: ModelServer) -> None:
    """The service, the warm reader and the one that reads stay below 512 MB together."""
    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.process", **model.environment()) as process,
        memory.watched(process.pid) as seen,
    ):
        await site.upload("long.pdf", memory.long_report(PAGES))
        (job,) = await site.ended("long.pdf", within_seconds=300)
    assert job["status"] == "completed", job["error_message"]
    assert seen.most_processes >= 3  # the reader was seen at work
    assert 0 < seen.peak_bytes < 512 * MEGABYTE


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_number_of_files(site: Site, model: ModelServer) -> None:
    """After a first round of a hundred files, another leaves memory at rest where it was."""
    held = []
    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.process", **model.environment()) as process,
    ):
        for number in range(ROUNDS):
            await memory.feed(site, number * memory.ROUND)
            held.append(sum(await memory.at_rest(process.pid)))
    assert held[-1] < held[0] * 1.1 + 8 * MEGABYTE, held
