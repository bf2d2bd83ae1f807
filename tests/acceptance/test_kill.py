"""Kill -9 of the real process service in the middle of its work: the next one completes it, and pays almost nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from tests.acceptance.blockade import blockade, counting
from tests.plugins.stack import ServiceProcess, Site, eventually

SECTIONS = 90
"""More than one batch of chunks (64) and more than two of the model's (32 texts)."""

TEXTS_PER_CALL = 32
LEASE_SECONDS = 60

# A write that only this stage makes, and where the stage has several batches, one of the second.
WRITES = {
    "downloading": ("document_processing_jobs", "update of media_type", "new.media_type is not null"),
    "processing": ("chunks", "insert", "new.ordinal >= 64"),
    "embedding": (
        "embeddings",
        "insert",
        "(select count(*) from embeddings where organization_id = new.organization_id) >= 32",
    ),
    "storing": ("documents", "update of live_job_id", "new.live_job_id is not null"),
}
COMMITTED = {  # when the worker dies: chunks that are stored, texts that have a vector
    "downloading": (0, 0),
    "processing": (64, 0),
    "embedding": (SECTIONS, TEXTS_PER_CALL),
    "storing": (SECTIONS, SECTIONS),
}


def manual() -> bytes:
    """Write a file of many short sections, each its own chunk with its own text."""
    return "\n\n".join(
        f"# Valve {number}\n\nValve {number} opens at {number} bar." for number in range(SECTIONS)
    ).encode()


@asynccontextmanager
async def processing(site: Site) -> AsyncIterator[ServiceProcess]:
    """Run ingest here and the process service as a real process."""
    async with site.service(build_ingest, IngestSettings), site.process("services.process") as process:
        yield process


@pytest.mark.parametrize("stage", WRITES)
async def test_a_file_is_completed_after_kill_9(site: Site, stage: str) -> None:
    """Killed in any stage: completed by the next worker, chunks there once, at most one batch of texts sent twice."""
    table, event, condition = WRITES[stage]
    async with processing(site) as first:
        await site.upload("undisturbed.md", manual(), organization_id="reference")
        (undisturbed,) = await site.ended("undisturbed.md")
        guard = f"new.organization_id = 'acme' and {condition}"
        async with blockade(site, table, event, guard) as blocked:
            await site.upload("manual.md", manual(), organization_id="acme")
            await blocked.held()
            job = await site.job("manual.md")
            assert job is not None
            assert (job["status"], job["processing_stage"], job["attempts"]) == ("processing", stage, 1)
            embedded = await vectors(site, "acme")
            assert (len(await site.chunks(job["id"])), embedded) == COMMITTED[stage]
            family = first.family()
            await first.child.kill9()
            await blocked.lift()
    await gone(family)
    committed_calls = (await site.job("manual.md") or {})["model_calls"]

    await site.shift_clock(LEASE_SECONDS + 1)
    summary = await site.recover_once()
    assert (summary["duties"]["rescue"]["rescued"], summary["duties"]["rescue"]["failed"]) == (1, 0)
    async with (
        counting(site, "chunks") as chunks_written,
        counting(site, "embeddings") as vectors_written,
        site.process("services.process") as second,
    ):
        (job,) = await site.ended("manual.md")

    assert (job["status"], job["processing_stage"], job["error_code"]) == ("completed", "completed", None)
    assert (job["attempts"], job["retry_count"], job["rescue_count"]) == (1, 0, 1)
    chunks = await site.chunks(job["id"])
    assert chunks == await site.chunks(undisturbed["id"])
    assert len(chunks) == SECTIONS
    assert await site.value("select count(*) from chunks where document_id = $1", job["document_id"]) == SECTIONS
    assert await vectors(site, "acme") == len({text for _, text, _ in chunks}) == SECTIONS

    # What was committed is not done again. Not committed, and so repeated, was the one batch in hand.
    stored = COMMITTED[stage][0]
    assert await chunks_written() == SECTIONS - stored
    assert await vectors_written() == json.loads(job["result"])["embedded_texts"] == SECTIONS - embedded
    assert job["model_calls"] - committed_calls == -(-(SECTIONS - embedded) // TEXTS_PER_CALL)
    assert job["model_calls"] == undisturbed["model_calls"]
    assert list(second.temp_dir.iterdir()) == []


async def vectors(site: Site, organization_id: str) -> int:
    """Count an organization's texts that have a vector."""
    count: int = await site.value("select count(*) from embeddings where organization_id = $1", organization_id)
    return count


async def gone(family: list[psutil.Process]) -> None:
    """Wait until none of these processes runs any more."""

    async def look() -> bool:
        return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family)

    await eventually(look, within_seconds=10)
