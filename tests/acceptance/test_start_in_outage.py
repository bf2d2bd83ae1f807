"""Services that are started while everything they need is down: they wait, say so, and come up by themselves."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from shared.local.process import ChildProcess
from tests.plugins.stack import Site, eventually

SERVICES = ("services.ingest", "services.process", "services.recover", "services.api")


@asynccontextmanager
async def begun(site: Site, module: str) -> AsyncIterator[ChildProcess]:
    """Run a service as the process that production runs, and be content with that it listens."""

    async def listens(child: ChildProcess) -> bool:
        return "service.listening" in child.log_path.read_text()

    child = ChildProcess(
        module,
        [sys.executable, "-m", module],
        log_path=site.folder / f"{module}.log",
        ready=listens,
        env=site.process_environment({"RECOVER_EVERY_SECONDS": 1, "DATABASE_POOL_TIMEOUT_SECONDS": 2}),
    )
    async with child:
        yield child


async def status(address: str, path: str) -> tuple[int, str]:
    """Ask a service for something."""
    async with aiohttp.ClientSession() as session, session.get(address + path) as answer:
        return answer.status, await answer.text()


def address_in(log: str, event: str) -> str:
    """Return the address that a line of a log tells."""
    found = re.search(rf'{event}.*?(http://[^"\s]+)', log)
    assert found is not None
    return found[1]


async def test_services_that_start_while_everything_is_down_come_up_by_themselves(site_with_postgres: Site) -> None:
    """Live and not ready as long as Postgres, broker and bucket are away; an upload completes once they are there."""
    site = site_with_postgres
    (site.folder / "tmp").mkdir(exist_ok=True)
    async with AsyncExitStack() as processes:
        async with (
            site.servers.outage(site.servers.gcs),
            site.servers.outage(site.servers.broker),
            site.servers.outage(site.servers.postgres),
        ):
            children = [await processes.enter_async_context(begun(site, module)) for module in SERVICES]
            for child in children:
                waiting = address_in(child.log_path.read_text(), "service.listening")
                assert (await status(waiting, "/livez"))[0] == 200
                code, text = await status(waiting, "/readyz")
                assert (code, "DATABASE_UNAVAILABLE" in text) == (503, True)
                assert (await status(waiting, "/api/v1/cron/jobs"))[0] == 503
        addresses = []
        for child in children:

            async def started(child: ChildProcess = child) -> bool:
                return "service.started" in child.log_path.read_text()

            await eventually(started)
            addresses.append(address_in(child.log_path.read_text(), "service.started"))
        await site.upload("late.txt", b"The gate closes in 75 seconds.")
        (job,) = await site.ended("late.txt")
        assert (job["status"], job["attempts"]) == ("completed", 1)
        for address in addresses:

            async def ready(address: str = address) -> bool:
                return (await status(address, "/readyz"))[0] == 200

            await eventually(ready)


@pytest.mark.slow
async def test_one_recover_run_that_finds_the_database_away_says_so_and_fails(site_with_postgres: Site) -> None:
    """It tries for some seconds, and its exit code is not that of wrong settings: a scheduler runs it again."""
    site = site_with_postgres
    (site.folder / "tmp").mkdir(exist_ok=True)
    async with site.servers.outage(site.servers.postgres):
        child = ChildProcess(
            "once",
            [sys.executable, "-m", "services.recover", "--once"],
            log_path=site.folder / "once.log",
            ready=_at_once,
            env=site.process_environment({}),
        )
        async with child:
            assert await child.wait_ended() == 1
            assert "DATABASE_UNAVAILABLE" in child.log_path.read_text()


async def _at_once(_child: ChildProcess) -> bool:
    return True
