"""SIGTERM to the real process service: it takes nothing more, ends in time, and loses nothing."""

from __future__ import annotations

import asyncio

import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from shared.clock import SystemClock
from tests.acceptance.blockade import blockade
from tests.plugins.stack import Site

NAMES = ["a.txt", "b.txt", "c.txt"]
TERMS = 20
GRACE_SECONDS = 10.0
"""What Cloud Run gives."""


async def upload_all(site: Site) -> None:
    """Put files with different texts into the bucket."""
    for name in NAMES:
        await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())


async def test_jobs_in_flight_are_handed_back_uncharged_and_completed_by_the_next_worker(site: Site) -> None:
    """Work that does not end in time goes back to the queue with no attempt used; nothing of the process stays."""
    clock = SystemClock()
    async with site.service(build_ingest, IngestSettings):
        async with site.process("services.process") as first:
            async with blockade(site, "chunks", "insert", "true") as blocked:
                await upload_all(site)
                await blocked.held(len(NAMES))
                family = first.family()
                started = clock.monotonic()
                first.terminate()
                async with asyncio.timeout(GRACE_SECONDS + 5):
                    status = await first.child.wait_ended()
                took_seconds = clock.monotonic() - started
            assert (status, took_seconds < GRACE_SECONDS) == (0, True), f"{status} after {took_seconds:.1f} s"
            assert not any(process.is_running() for process in family)
            assert list(first.temp_dir.iterdir()) == []
            for job in [await site.job(name) for name in NAMES]:
                assert job is not None
                assert (job["status"], job["attempts"], job["rescue_count"]) == ("pending", 0, 0)
        async with site.process("services.process"):
            jobs = await site.ended(*NAMES)
    assert [(job["status"], job["attempts"], job["retry_count"], job["rescue_count"]) for job in jobs] == [
        ("completed", 1, 0, 0)
    ] * len(NAMES)


async def test_jobs_that_can_end_in_time_are_finished_by_the_worker_that_stops(site: Site) -> None:
    """Within the grace time work is finished rather than thrown away, and the process still ends with 0."""
    async with site.service(build_ingest, IngestSettings), site.process("services.process") as process:
        async with blockade(site, "chunks", "insert", "true") as blocked:
            await upload_all(site)
            await blocked.held(len(NAMES))
            process.terminate()
            await process.logs("service.stopping")
        async with asyncio.timeout(GRACE_SECONDS):
            assert await process.child.wait_ended() == 0
        jobs = [await site.job(name) for name in NAMES]
        assert [job and (job["status"], job["attempts"]) for job in jobs] == [("completed", 1)] * len(NAMES)
        assert list(process.temp_dir.iterdir()) == []


@pytest.mark.slow
async def test_twenty_terms_in_the_middle_of_a_job_leave_its_attempts_where_they_were(site: Site) -> None:
    """However often a platform moves the service, the job is handed back uncharged each time, and then done at once."""
    await site.undeliverable_after("work-interactive", 100)  # and no back-off: this is not about the broker's patience
    async with site.service(build_ingest, IngestSettings), blockade(site, "chunks", "insert", "true") as blocked:
        await site.upload("a.txt", b"The gate of a.txt closes in 75 seconds.")
        for _ in range(TERMS):
            async with site.process("services.process", DRAIN_SECONDS=0.1) as process:
                await blocked.held()
                process.terminate()
                async with asyncio.timeout(GRACE_SECONDS + 5):
                    assert await process.child.wait_ended() == 0
            job = await site.job("a.txt")
            assert job is not None
            counts = (job["status"], job["attempts"], job["retry_count"], job["rescue_count"])
            assert counts == ("pending", 0, 0, 0)
        await blocked.lift()
        async with site.process("services.process"):
            (job,) = await site.ended("a.txt")
    assert (job["status"], job["attempts"], job["retry_count"], job["rescue_count"]) == ("completed", 1, 0, 0)
