"""A model that allows so many calls a second and no more: every file is completed, and hardly a call is wasted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

WORKERS, AT_ONCE = 2, 4


@asynccontextmanager
async def workers(site: Site, model: ModelServer) -> AsyncIterator[None]:
    """Run ingest and several process services, which share nothing but the database."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        for number in range(WORKERS):
            said = {"WORKER_NAME": f"worker-{number}", "PROCESS_CONCURRENCY": AT_ONCE} | model.environment()
            await stack.enter_async_context(site.service(build_process, ProcessSettings, **said))
        yield


async def test_a_storm_ends_with_every_file_completed(site: Site, model: ModelServer) -> None:
    """Two workers with eight calls at once against five a second: no attempt is used up, no call made in vain."""
    model.allowance_per_second = 5
    names = [f"file-{number}.txt" for number in range(40)]
    started = model.clock.monotonic()
    async with workers(site, model):
        for name in names:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())
        jobs = await site.ended(*names)
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    statuses = model.statuses()
    assert statuses[200] == len(names)
    assert statuses[429] > 0
    assert len(model.calls) <= model.allowed(started, model.calls[-1].at) * 1.1
    # Besides those that were under way when the first refusal came, one in ten at most is refused.
    assert statuses[429] <= WORKERS * AT_ONCE + len(names) * 0.1
    assert model.repeated == {}


async def test_a_long_wait_that_is_asked_for_is_kept_by_all(site: Site, model: ModelServer) -> None:
    """RetryInfo of minutes: jobs wait in the database without a call, uncharged, and are done when it is over."""
    model.allowance_per_second = 1 / 300
    model.use_up()
    names = [f"file-{number}.txt" for number in range(12)]
    async with workers(site, model):
        for name in names:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())

        async def all_wait() -> bool:
            waiting: int = await site.value(
                "select count(*) from document_processing_jobs"
                " where status = 'pending' and attempts = 0 and deferred_reason = 'RATE_LIMITED'"
                " and next_attempt_at > headrace_now()"
            )
            return waiting == len(names)

        await eventually(all_wait)
        assert len(model.calls) <= WORKERS * AT_ONCE
        await site.shift_clock(301)
        model.allowance_per_second = 5
        jobs = await site.ended(*names)
    assert {(job["status"], job["attempts"]) for job in jobs} == {("completed", 1)}
    assert model.statuses()[200] == len(names)
