"""Postgres restarts, or every connection is cut, in the middle of the work: all services come back by themselves.

How many seconds that takes is measured by `benchmarks/chaos.py --restart`; here it only has to happen.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import aiohttp
import pytest

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from services.recover.app import build as build_recover
from services.recover.settings import RecoverSettings
from tests.acceptance.blockade import blockade
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

FILES = 60
AT_WORK = 4


async def all_services(site: Site, model: ModelServer, stack: AsyncExitStack) -> aiohttp.ClientSession:
    """Run the four services, with nobody who would restart them; return a session of the api."""
    said = {"RECOVER_EVERY_SECONDS": 0.5, "DATABASE_POOL_TIMEOUT_SECONDS": 2}
    await stack.enter_async_context(site.service(build_ingest, IngestSettings))
    await stack.enter_async_context(
        site.service(build_process, ProcessSettings, PROCESS_CONCURRENCY=AT_WORK, **model.environment())
    )
    await stack.enter_async_context(site.service(build_recover, RecoverSettings, **said))
    address = await stack.enter_async_context(site.service(build_api, ApiSettings, **model.environment()))
    return await stack.enter_async_context(aiohttp.ClientSession(address))


def names() -> list[str]:
    """Name the files of the test."""
    return [f"file-{number:02}.txt" for number in range(FILES)]


async def completed(site: Site) -> int:
    """Count the files that are done."""
    count: int = await site.value("select count(*) from document_processing_jobs where status = 'completed'")
    return count


async def more_are_completed(site: Site, than: int) -> None:
    """Wait until more files are completed than that."""

    async def look() -> bool:
        return await completed(site) > than

    await eventually(look)


async def all_are_back(site: Site, api: aiohttp.ClientSession) -> None:
    """Wait until process completes files, recover makes runs, and the api finds what is there, all from now on."""
    since, done = await site.value("select clock_timestamp()"), await completed(site)
    await more_are_completed(site, done)

    async def recover_runs() -> bool:
        return bool(await site.value("select count(*) from recover_runs where started_at > $1", since))

    async def api_finds() -> bool:
        async with api.post("/api/v1/search", json={"query": "gate"}) as response:
            return response.status == 200 and bool((await response.json())["hits"])

    await eventually(recover_runs)
    await eventually(api_finds)


async def upload(site: Site, some: list[str]) -> None:
    """Put files of their own text into the bucket."""
    for name in some:
        await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())


async def check(site: Site) -> None:
    """Every file was completed at its first attempt: no outage of ours was charged to it, and nobody rescued it."""
    jobs = await site.ended(*names(), within_seconds=120)
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    assert await site.value("select count(*) from document_processing_jobs") == FILES
    assert await site.value("select count(*) from documents where live_job_id is not null") == FILES
    assert await site.value("select count(*) from chunks") == FILES
    assert await site.value("select count(*) from dead_letters") == 0


async def test_all_services_survive_a_restart_of_postgres(site_with_postgres: Site, model: ModelServer) -> None:
    """Killed and started again with 4 of 60 files in hand, and more coming meanwhile: the work goes on in seconds."""
    site = site_with_postgres
    async with AsyncExitStack() as stack:
        api = await all_services(site, model, stack)
        await upload(site, names()[:40])
        await more_are_completed(site, 5)
        async with site.servers.outage(site.servers.postgres):
            await upload(site, names()[40:])
        await all_are_back(site, api)
        await check(site)


async def test_all_services_survive_the_end_of_every_connection(site: Site, model: ModelServer) -> None:
    """All backends terminated, three times, once with every worker in the middle of a write: nothing is charged."""
    async with AsyncExitStack() as stack:
        api = await all_services(site, model, stack)
        async with blockade(site, "chunks", "insert", "true") as blocked:
            await upload(site, names())
            await blocked.held(AT_WORK)
            await cut_all(site)
        for _ in range(2):
            await more_are_completed(site, await completed(site))
            await cut_all(site)
        await all_are_back(site, api)
        await check(site)


async def cut_all(site: Site) -> None:
    """End every connection of the product to this database; the test's own stay."""
    await site.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'headrace'"
    )
