"""The road of a file without servers but Postgres: real handlers, a simulated bucket, a publisher that remembers.

For tests about our own decisions under any order of events: fast, exact about generations, and steered by the test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache, partial

import asyncpg
import pytest

from services.ingest.handler import IngestNotification
from services.process.document import IndexDocument
from services.process.handler import AnswerBell
from services.process.registry import Registry
from services.recover.duties.intake import intake
from services.recover.duties.replays import replays
from services.recover.replay_topic import ReplayMessages, replay_topic
from services.recover.run import RecoverRun
from services.recover.settings import RecoverSettings
from shared.clock import SystemClock
from shared.events.catalogue import WorkBell
from shared.events.envelope import attributes_of, body_of
from shared.model.job import JobType, Lane
from shared.model.outcome import Outcome
from shared.ports.broker import Delivery, Taken
from shared.ports.dead_letters import ReplayRules
from shared.postgres.chunks import PostgresChunkIndex
from shared.postgres.dead_letters import PostgresDeadLetterStore, PostgresLetterDirectory
from shared.postgres.directory import PostgresJobDirectory
from shared.postgres.documents import PostgresDocumentStore
from shared.postgres.jobs import PostgresWorkQueue
from shared.postgres.outbox import PostgresOutbox
from shared.postgres.pool import Database, open_database
from shared.postgres.recover import PostgresRecoverStore
from shared.postgres.replays import PostgresReplayStore
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.gate import Gate
from shared.worker.owner import owner_of
from shared.worker.relay import Relay
from shared.worker.replay import Replays, resolving
from shared.worker.retry import RetryPolicy
from shared.worker.sync import Synchroniser
from tests.fakes import BUCKET, HashEmbedder, LineExtractor, RecordingPublisher, SimulatedBucket

SUBSCRIPTIONS = {f"headrace-{name}": name for name in ("uploads-ingest", "work-interactive", "work-bulk")}


class SimulatedInbox:
    """An `Inbox` in memory: what is taken and not acked comes again."""

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []

    async def take(self, *, limit: int, wait_seconds: float) -> Sequence[Taken]:
        return [Taken(delivery=one, ack_id=one.message_id) for one in self.waiting[:limit]]

    async def ack(self, taken: Sequence[Taken]) -> None:
        done = {id(one.delivery) for one in taken}
        self.waiting = [one for one in self.waiting if id(one) not in done]

    async def nack(self, taken: Sequence[Taken]) -> None:
        return None


@dataclass
class Road:
    """Everything wired as the services wire it, with the outside in the test's hands."""

    database: Database
    url: str
    tracing: Tracing
    metrics: Metrics
    bucket: SimulatedBucket = field(default_factory=SimulatedBucket)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)
    embedder: HashEmbedder = field(default_factory=HashEmbedder)
    undelivered: SimulatedInbox = field(default_factory=SimulatedInbox)
    """What the broker gave up on, as the next recover run finds it."""
    orders: SimulatedInbox = field(default_factory=SimulatedInbox)
    """Messages of the replay topic."""

    def __post_init__(self) -> None:
        clock = SystemClock()
        self.queue = PostgresWorkQueue(self.database)
        self.documents = PostgresDocumentStore(self.database)
        self.directory = PostgresJobDirectory(self.database)
        self.index = PostgresChunkIndex(self.database)
        self.outbox = PostgresOutbox(self.database)
        self.dead_letters = PostgresDeadLetterStore(self.database)
        self.relay = Relay(self.outbox, self.publisher, tracing=self.tracing, clock=clock)
        self.synchroniser = Synchroniser(
            self.documents, self.bucket, owner_of=owner_of(template=None, default="acme"), tracing=self.tracing
        )
        self.ingest = resolving(
            IngestNotification(
                bucket=BUCKET,
                synchroniser=self.synchroniser,
                dead_letters=self.dead_letters,
                relay=self.relay,
                metrics=self.metrics,
            ),
            self.dead_letters,
            self.metrics,
        )
        self.work = IndexDocument(
            queue=self.queue,
            storage=self.bucket,
            extractor=LineExtractor(),
            embedder=self.embedder,
            tracing=self.tracing,
            metrics=self.metrics,
            clock=clock,
            max_object_bytes=1 << 20,
        )
        self.process = self.worker("worker")
        rules = ReplayRules(topics={"uploads-ingest": "uploads", "work-interactive": "work", "work-bulk": "work"})
        work = Replays(PostgresReplayStore(self.database, rules), PostgresLetterDirectory(self.database), clock=clock)
        self.recover = RecoverRun(
            settings=_recover_settings(self.url),
            store=PostgresRecoverStore(self.database),
            outbox=self.outbox,
            relay=self.relay,
            storage=self.bucket,
            synchroniser=self.synchroniser,
            tracing=self.tracing,
            metrics=self.metrics,
            clock=clock,
            inboxes={
                "intake": partial(
                    intake, self.undelivered, self.dead_letters, subscriptions=SUBSCRIPTIONS, batch_size=50
                ),
                "replay_topic": partial(
                    replay_topic, self.orders, ReplayMessages(work, self.dead_letters), batch_size=50
                ),
            },
            letters={"replays": partial(replays, work, batch_size=50)},
        )

    def worker(self, name: str, work: object = None, *, others: Registry | None = None) -> AnswerBell:
        """Return another process worker on the same queue; `others` are handlers of jobs without a document."""
        return AnswerBell(
            worker=name,
            handlers={JobType.DOCUMENT_PROCESSING: work or self.work, **(others or {})},
            queue=self.queue,
            dead_letters=self.dead_letters,
            synchroniser=self.synchroniser,
            relay=self.relay,
            retries=RetryPolicy(),
            tracing=self.tracing,
            metrics=self.metrics,
            clock=SystemClock(),
            lease_seconds=60,
            heartbeat_seconds=20,
            gate=Gate(self.database.ping, clock=SystemClock()),
        )

    async def notify(self, name: str, event: str = "OBJECT_FINALIZE", **attributes: str) -> Outcome:
        """Deliver a notification; what it says of generations is up to the test, and nobody should care."""
        said = {"bucketId": BUCKET, "objectId": name, "eventType": event, "objectGeneration": "1", **attributes}
        return await self.ingest(delivery("uploads-ingest", b"{}", said))

    async def ring(self, lane: Lane = Lane.INTERACTIVE, *, quarantined: bool = False) -> Outcome:
        """Deliver a bell."""
        bell = WorkBell(lane=lane, quarantined=quarantined)
        handle = resolving(self.process, self.dead_letters, self.metrics)
        return await handle(delivery("work-interactive", body_of(bell), attributes_of(bell)))

    async def work_off(self) -> int:
        """Ring until nothing is due in either lane; return how many jobs ran."""
        ran = 0
        for lane in Lane:
            for quarantined in (True, False):
                while (await self.ring(lane, quarantined=quarantined)).name != "nothing_due":
                    ran += 1
        return ran

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Look into the database."""
        async with self.database.get_connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def value(self, sql: str, *arguments: object) -> object:
        """Look at one value in the database."""
        async with self.database.get_connection() as connection:
            return await connection.fetchval(sql, *arguments)

    async def shift_clock(self, seconds: float) -> None:
        """Move the database's clock to `seconds` from the real one; it goes on from there."""
        async with self.database.get_connection() as connection:
            await connection.execute(
                "create or replace function headrace_now() returns timestamptz language sql stable parallel safe "
                f"as $$ select statement_timestamp() + interval '{float(seconds)} seconds' $$"
            )

    async def visible(self, name: str) -> list[str]:
        """Return the texts that are found of a file, in order."""
        found = await self.fetch(
            "select text from documents d join chunks c on c.job_id = d.live_job_id where name = $1 order by ordinal",
            name,
        )
        return [row["text"] for row in found]

    async def in_step(self) -> bool:
        """Say whether what is found equals the bucket, name by name and line by line."""
        for name, (_, content) in self.bucket.objects.items():
            if await self.visible(name) != content.decode().splitlines():
                return False
        others = await self.fetch("select name from documents where live_job_id is not null")
        return {row["name"] for row in others} == set(self.bucket.objects)


@cache
def _recover_settings(url: str) -> RecoverSettings:
    """Settings are read slowly, and roads are made by the thousand."""
    return RecoverSettings(database_url=url, google_cloud_project_id="test", bucket=BUCKET, reconcile_every_seconds=0)


def delivery(subscription: str, data: bytes, attributes: dict[str, str]) -> Delivery:
    """Make a delivery as the broker would."""
    return Delivery(subscription=subscription, message_id="m", published_at=None, data=data, attributes=attributes)


@pytest.fixture
async def road(database_url: str) -> AsyncIterator[Road]:
    """Give a road on a fresh database."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(open_database(database_url, size=8))
        tracing = await stack.enter_async_context(Tracing("test"))
        metrics = await stack.enter_async_context(Metrics("test"))
        yield Road(database=database, url=database_url, tracing=tracing, metrics=metrics)
