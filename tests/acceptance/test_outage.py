"""Postgres is down for an hour while files arrive: none is dead-lettered for good, and all are completed afterwards."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import aiohttp
import pytest

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
from shared.ports.dead_letters import UNDELIVERABLE
from shared.pubsub import topics
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics
from tests.plugins.stack import ServiceProcess, Site, eventually

BEFORE = [f"before-{number}.txt" for number in range(4)]
DYING = [f"dying-{number}.txt" for number in range(12)]
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
                await eventually(lambda: nothing_is_open(site))
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    assert await site.value("select count(*) from document_processing_jobs") == len(jobs)


@pytest.mark.slow
async def test_letters_of_our_own_outage_are_replayed_by_themselves_once(site_with_postgres: Site) -> None:
    """Pub/Sub gives up on every notification, nobody else knows of them: recover takes them in and sends them back.

    The services are real processes. The broker's hour passes faster than they can extend their leases, so each delivery
    runs out, as it does after the longest lease that the service allows.
    """
    site, clock = site_with_postgres, ShiftedClock()
    async with serve(clock=clock, topology=topology(site)) as endpoint:
        # Compared once, and never again: what comes back does not come from a listing of the bucket.
        said = {"PUBSUB_EMULATOR_HOST": endpoint.address, "RECONCILE_EVERY_SECONDS": 10**9}
        notified, letters = (
            endpoint.broker.subscription(topics.subscription_path(site.servers.project, name))
            for name in ("uploads-ingest", "dead-letters-intake")
        )
        async with site.process("services.process", **said):
            async with site.process("services.ingest", **said) as ingest:
                async with site.process("services.recover", **said) as recover:
                    assert "reconcile" in await run_now(recover)
                async with site.servers.outage(site.servers.postgres):
                    await upload(site, endpoint, DYING)
                    seconds = 0
                    while len(letters.unread()) < len(DYING) or seconds < HOUR_SECONDS:
                        assert seconds < 10 * HOUR_SECONDS, f"{len(letters.unread())} were given up"
                        clock.advance(STEP_SECONDS)
                        seconds += STEP_SECONDS
                        await site.storage.ping(site.servers.bucket)  # a round trip: everybody has a turn
                    assert notified.unread() == []
                    await ingest.child.kill9()  # with what it held in its memory
            assert await site.value("select count(*) from documents") == 0

            async with site.process("services.recover", **said) as recover:
                duties = await run_now(recover)
                assert (duties["intake"]["new"], duties["intake"]["errors"]) == (len(DYING), 0)
                assert (duties["replays"]["automatic"], duties["replays"]["replayed"]) == (1, len(DYING))
                assert "reconcile" not in duties
                async with site.process("services.ingest", **said):
                    jobs = await site.ended(*DYING)
                    await eventually(lambda: nothing_is_open(site))
                duties = await run_now(recover)
                assert (duties["intake"]["new"], duties["replays"]["automatic"]) == (0, 0)
                assert duties["replays"]["replayed"] == 0
    assert {(job["status"], job["attempts"], job["rescue_count"]) for job in jobs} == {("completed", 1, 0)}
    assert await site.value("select count(*) from document_processing_jobs") == len(jobs)
    rows = await site.rows(
        "select distinct origin, subscription, failures, replays, auto_replayed, deliveries, code from dead_letters"
    )
    assert [tuple(row) for row in rows] == [("message", "uploads-ingest", 1, 1, True, 10, UNDELIVERABLE)]


async def nothing_is_open(site: Site) -> bool:
    """Say whether every dead letter is resolved."""
    return bool(await site.value("select count(*) from dead_letters where state <> 'resolved'") == 0)


async def run_now(recover: ServiceProcess) -> dict[str, dict[str, int]]:
    """Ask for a run, as the scheduler does; return the counts of its duties."""
    async with aiohttp.ClientSession(recover.address) as session, session.post("/") as response:
        summary = await response.json()
    assert summary["ok"], summary
    duties: dict[str, dict[str, int]] = summary["duties"]
    return duties


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
