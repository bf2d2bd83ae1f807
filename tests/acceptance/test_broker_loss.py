"""Kill -9 of the broker: it forgets every message, and a recover run brings all files home all the same."""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from services.recover.app import build as build_recover
from services.recover.settings import RecoverSettings
from tests.acceptance.blockade import blockade
from tests.plugins.stack import Site, eventually

DECIDED = [f"decided-{number}.txt" for number in range(15)]
UNSEEN = [f"unseen-{number}.txt" for number in range(15)]
AT_WORK = 4


async def test_all_files_come_home_after_the_broker_lost_its_messages(site: Site) -> None:
    """Lost notifications are found by the listing, lost bells are rung again; every file is completed, none twice."""
    async with AsyncExitStack() as stack:
        recover = await stack.enter_async_context(
            # The bells of this test are young; in production they are waited for five minutes.
            site.service(build_recover, RecoverSettings, STUCK_JOB_THRESHOLD_MINUTES=0.001)
        )
        await stack.enter_async_context(site.service(build_process, ProcessSettings, PROCESS_CONCURRENCY=AT_WORK))
        async with blockade(site, "chunks", "insert", "true") as blocked:
            async with site.service(build_ingest, IngestSettings):
                await upload(site, DECIDED)
                await eventually(lambda: jobs_are_rung(site, len(DECIDED)))
                await blocked.held(AT_WORK)
            await upload(site, UNSEEN)  # nobody takes their notifications
            await site.servers.broker.kill9()
            await site.servers.wait_restarted(site.servers.broker)
        await site.ended(*await claimed(site))  # those at work need no message to go on

        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        async with aiohttp.ClientSession(recover) as session, session.post("/?reconcile=1") as response:
            assert response.status == 200
            duties = (await response.json())["duties"]
        jobs = await site.ended(*DECIDED, *UNSEEN)

    assert duties["ring_stuck"]["rung"] == len(DECIDED) - AT_WORK
    # The bucket's server tries for a while to tell what it could not; what came that way was not missing any more.
    assert duties["reconcile"]["missing"] > 0
    assert {job["status"] for job in jobs} == {"completed"}
    assert {(job["attempts"], job["rescue_count"]) for job in jobs} == {(1, 0)}
    assert await site.value("select count(*) from document_processing_jobs") == len(jobs)
    once = "select count(*) from job_events where status = 'completed'"
    assert await site.value(once) == len(jobs)
    for job in jobs:
        assert [text for _, text, _ in await site.chunks(job["id"])] == [content(job["name"]).decode()]
    assert await site.value("select count(*) from documents where live_job_id is not null") == len(jobs)
    assert await site.value("select count(*) from chunks") == len(jobs)


def content(name: str) -> bytes:
    """Write a text of a file's own."""
    return f"The gate of {name} closes in 75 seconds.".encode()


async def upload(site: Site, names: list[str]) -> None:
    """Put the files into the bucket."""
    for name in names:
        await site.upload(name, content(name))


async def jobs_are_rung(site: Site, count: int) -> bool:
    """Say whether so many jobs are there and their bells have reached the broker."""
    rung: int = await site.value("select count(*) from outbox where topic = 'work' and published_at is not null")
    return rung >= count


async def claimed(site: Site) -> list[str]:
    """Return the names of those that a worker has begun."""
    return [row["name"] for row in await site.rows("select name from document_processing_jobs where attempts > 0")]
