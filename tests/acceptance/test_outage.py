"""Postgres is down for an hour while files arrive: none is dead-lettered for good, and all are completed afterwards."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from services.recover.app import build as build_recover
from services.recover.settings import RecoverSettings
from shared.clock import SystemClock
from shared.local.pubsub.endpoint import Endpoint, serve
from shared.local.pubsub.topology import Topology
from shared.ports.broker import Message
from shared.pubsub import topics
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics
from tests.plugins.stack import Site, eventually

BEFORE = [f"before-{number}.txt" for number in range(4)]
DURING = [f"during-{number}.txt" for number in range(30)]
HOUR_SECONDS, STEP_SECONDS = 3600, 60


class ShiftedClock(SystemClock):
    """The machine's clock, which a test can move on; those who wait notice."""

    def __init__(self) -> None:
        self._shifted_seconds = 0.0
        self._moved = asyncio.Event()

    def now(self) -> datetime:
        """Return the shifted time."""
        return super().now() + timedelta(seconds=self._shifted_seconds)

    def monotonic(self) -> float:
        """Return the shifted seconds."""
        return super().monotonic() + self._shifted_seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until that time has come, by itself or by a move."""
        until = self.monotonic() + seconds
        while (left := until - self.monotonic()) > 0:
            await asyncio.wait({asyncio.ensure_future(self._moved.wait())}, timeout=left)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self._shifted_seconds += seconds
        self._moved.set()
        self._moved = asyncio.Event()


async def test_an_hour_without_postgres_loses_no_upload(site_with_postgres: Site) -> None:
    """Notifications wait, or die and come back; nothing is left in the list of failures, every file is completed."""
    site, clock = site_with_postgres, ShiftedClock()
    async with serve(clock=clock, topology=topology(site)) as endpoint:
        said = {"PUBSUB_EMULATOR_HOST": endpoint.address, "DATABASE_POOL_TIMEOUT_SECONDS": 1}
        async with (
            site.service(build_ingest, IngestSettings, **said),
            site.service(build_process, ProcessSettings, **said),
        ):
            await upload(site, endpoint, BEFORE)
            await site.ended(*BEFORE)
            async with site.servers.outage(site.servers.postgres):
                await upload(site, endpoint, DURING)
                for _ in range(HOUR_SECONDS // STEP_SECONDS):
                    clock.advance(STEP_SECONDS)
                    await site.storage.ping(site.servers.bucket)  # a round trip: everybody has a turn
            async with site.service(
                build_recover, RecoverSettings, RECOVER_EVERY_SECONDS=1, RECONCILE_EVERY_SECONDS=1, **said
            ):
                jobs = await site.ended(*BEFORE, *DURING)

                async def no_letters() -> bool:
                    return await site.value("select count(*) from dead_letters where state <> 'resolved'") == 0

                await eventually(no_letters)
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    assert await site.value("select count(*) from document_processing_jobs") == len(jobs)


def topology(site: Site) -> Topology:
    """Return the product's topics and subscriptions, as the stack's own broker has them."""
    table = topics.topology(site.servers.project)
    known = [{key: value for key, value in entry.items() if value is not None} for entry in table["subscriptions"]]
    return Topology.model_validate(table | {"subscriptions": known})


async def upload(site: Site, endpoint: Endpoint, names: list[str]) -> None:
    """Put files into the bucket and tell about them as Cloud Storage would, on the broker whose time we move."""
    async with (
        Metrics("test") as metrics,
        PubSubPublisher(project_id=site.servers.project, metrics=metrics, emulator_host=endpoint.address) as publisher,
    ):
        for name in names:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())
            hint = {"bucketId": site.servers.bucket, "objectId": name, "eventType": "OBJECT_FINALIZE"}
            await publisher.publish(Message(topic=topics.UPLOADS, data=b"{}", attributes=hint))
