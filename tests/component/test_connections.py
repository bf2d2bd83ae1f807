"""Old fault: "Server didn't return client encoding", when many events shared a few connections, or leaked them.

Here the events are the product's own: notifications and bells, many at once, with a pool that is far too small for
them. Postgres itself is asked how many connections there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
import structlog

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from shared.postgres.pool import open_database
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from tests.plugins.road import Road
from tests.plugins.stack import Site, eventually

EVENTS = 10_000
FILES = 400
AT_ONCE = 60
POOL = 5

pytestmark = pytest.mark.slow


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep logs from being written: everything happens thousands of times."""
    with structlog.testing.capture_logs():
        yield


async def connections(watcher: asyncpg.Connection) -> int:
    """Count the product's connections to this database."""
    count: int = await watcher.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'headrace'"
    )
    return count


@pytest.mark.usefixtures("quiet")
async def test_server_didnt_return_client_encoding_ten_thousand_events_on_the_road(database_url: str) -> None:
    """Ingest and process handle 10,000 events, 60 at once, on five connections: each handled, and none left over."""
    async with AsyncExitStack() as stack:
        watcher = await asyncpg.connect(database_url)
        stack.push_async_callback(watcher.close)
        assert await connections(watcher) == 0
        async with (
            open_database(database_url, size=POOL, acquire_timeout_seconds=60) as database,
            Tracing("test") as tracing,
            Metrics("test") as metrics,
        ):
            road = Road(database=database, url=database_url, tracing=tracing, metrics=metrics)
            for number in range(FILES):
                road.bucket.put(f"file-{number}.txt", f"text of {number}".encode())
            turns = iter(range(EVENTS))
            outcomes: Counter[str] = Counter()
            most, one_looks = 0, asyncio.Lock()

            async def work() -> None:
                nonlocal most
                for turn in turns:
                    handled = road.ring() if turn % 5 == 4 else road.notify(f"file-{(turn + turn // 5) % FILES}.txt")
                    outcomes[(await handled).name] += 1
                    if turn % 100 == 0:
                        async with one_looks:
                            most = max(most, await connections(watcher))

            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
            await road.work_off()
            assert sum(outcomes.values()) == EVENTS
            assert set(outcomes) == {"done", "duplicate", "nothing_due"}, outcomes
            states = await road.fetch(
                "select status, error_code, attempts, count(*) from document_processing_jobs group by 1, 2, 3"
            )
            assert [tuple(row) for row in states] == [("completed", None, 1, FILES)]
            assert await road.in_step()
            stats = database.stats()
            assert (stats.in_use, stats.waiting) == (0, 0)
            assert stats.acquired > EVENTS
            assert 0 < most <= POOL
            assert await connections(watcher) <= POOL
            assert await road.value("select count(*) from documents where live_job_id is not null") == FILES

        async def gone() -> bool:
            return await connections(watcher) == 0

        await eventually(gone)


async def test_a_process_with_a_small_pool_keeps_to_it_and_leaves_none_open(site: Site) -> None:
    """The real service works on twenty files at once with three connections; SIGTERM leaves no connection behind."""
    names = [f"file-{number}.txt" for number in range(150)]

    async def open_now() -> int:
        count: int = await site.value(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'headrace'"
        )
        return count

    async with site.service(build_ingest, IngestSettings):
        for name in names:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())

        async def decided() -> bool:
            return bool(await site.value("select count(*) from document_processing_jobs") == len(names))

        await eventually(decided)
    before = await open_now()
    assert before == 0
    async with site.process("services.process", DATABASE_POOL_SIZE=3, PROCESS_CONCURRENCY=20) as process:
        most = 0

        async def done() -> bool:
            nonlocal most
            most = max(most, await open_now())
            completed = "select count(*) from document_processing_jobs where status = 'completed'"
            return bool(await site.value(completed) == len(names))

        await eventually(done, within_seconds=150)
        assert 0 < most <= 3
        assert "client encoding" not in process.log
        assert "POOL_EXHAUSTED" not in process.log

    async def none_is_left() -> bool:
        return await open_now() == 0

    await eventually(none_is_left)
