"""How fast stage events are published: one transaction per job, as it was once, against batches; for `recover.py`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory

import asyncpg
import plans

from shared.errors import HeadraceError
from shared.local.stack import LocalStack
from shared.ports.broker import Message
from shared.ports.outbox import Publish
from shared.postgres.migrate import migrate
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.pool import open_database
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics
from shared.worker.relay import BATCH

ROUNDS = 3


async def report(stuck: str, jobs: int) -> str:
    """Publish an event for each of so many jobs in both ways, in turns, on one stack; return what came of it.

    `stuck` is the statement that writes jobs, with bucket and number as its parameters.
    """
    rates: dict[str, list[float]] = {"job by job": [], "in batches": []}
    with TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        async with (
            LocalStack(plans.opened(folder), durable=True) as servers,
            Metrics("benchmark") as metrics,
            PubSubPublisher(
                project_id=servers.project, metrics=metrics, emulator_host=servers.broker.address
            ) as publisher,
        ):
            url = servers.environment()["DATABASE_URL"]
            await migrate(url)
            connection = await asyncpg.connect(url)
            try:
                await connection.fetch(stuck, servers.bucket, jobs, timeout=1800)
                async with open_database(url, size=2) as database:
                    outbox = PostgresOutbox(database)
                    for _ in range(ROUNDS):
                        for way, found in rates.items():
                            await connection.execute("update job_events set published_at = null", timeout=1800)
                            await connection.execute("vacuum analyze job_events", timeout=1800)
                            started = time.monotonic()
                            if way == "in batches":
                                while (await outbox.send(_to(publisher), limit=BATCH)).published:
                                    pass
                            else:
                                for row in await connection.fetch("select distinct job_id from job_events"):
                                    await outbox._send_events(  # noqa: SLF001 - one job in a transaction, no bells
                                        _to(publisher), [row["job_id"]], BATCH
                                    )
                            found.append(jobs / (time.monotonic() - started))
                            left = await connection.fetchval(
                                "select count(*) from job_events where published_at is null"
                            )
                            if left:
                                raise SystemExit(f"{left} events were not published")
            finally:
                await connection.close()
    median = {way: sorted(found)[ROUNDS // 2] for way, found in rates.items()}
    ratios = sorted(new / old for old, new in zip(*rates.values(), strict=True))
    return (
        f"{jobs:,} stage events, each of another job, {ROUNDS} times each way in turns: "
        f"{median['job by job']:,.0f}/s job by job, {median['in batches']:,.0f}/s in batches of {BATCH}; "
        f"{ratios[ROUNDS // 2]:.1f} times as many (from {ratios[0]:.1f} to {ratios[-1]:.1f})."
    )


def _to(publisher: PubSubPublisher) -> Publish:
    async def one(message: Message) -> bool:
        try:
            await publisher.publish(message)
        except HeadraceError:
            return False
        return True

    async def publish(messages: Sequence[Message]) -> Sequence[bool]:
        return await asyncio.gather(*(one(message) for message in messages))

    return publish
