"""A prefix that nobody was told about, backfilled by real processes, one of which is killed; nobody waits for it."""

from __future__ import annotations

import asyncio
import os

import pytest

from services.address import Address, published
from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from shared.postgres.pool import open_database
from shared.postgres.recover import PostgresRecoverStore
from tests.plugins.stack import Site, eventually

OBJECTS = 300
MAX_PENDING = 40
LEASE_SECONDS = 60
PATIENCE_SECONDS = 400.0

MADE = "select count(*) from document_processing_jobs where entity_type = 'bulk_import'"
WAITING = f"{MADE} and status in ('pending', 'processing')"
IMPORT = "select * from document_processing_jobs where job_type = 'bulk_import' order by created_at desc limit 1"


async def unnotified(site: Site) -> None:
    """Put the objects into the bucket, and lose every notification."""
    for start in range(0, OBJECTS, 10):
        await asyncio.gather(
            *(
                site.upload(f"archive/{number:03}.txt", f"Valve {number} opens at {number} bar.".encode())
                for number in range(start, start + 10)
            )
        )
    lost = 0
    async with site.subscriber("uploads-ingest") as take:
        while lost < OBJECTS:
            lost += len(await take())


@pytest.mark.slow
async def test_a_backfill_survives_kill_9_and_nobody_waits_for_it(site: Site) -> None:
    """Killed in the middle it goes on; at most so many of its jobs wait; an upload meanwhile is done long before."""
    await unnotified(site)
    said = {"BULK_IMPORT_MAX_PENDING": MAX_PENDING}
    most = 0

    async def made(number: int) -> bool:
        nonlocal most
        most = max(most, await site.value(WAITING))
        return bool(await site.value(MADE) >= number)

    async def ended() -> bool:
        nonlocal most
        most = max(most, await site.value(WAITING))
        return (await site.rows(IMPORT))[0]["completed_at"] is not None

    async with site.service(build_ingest, IngestSettings), site.service(build_api, ApiSettings) as api:
        address = Address(pid=os.getpid(), api=api, recover=api, storage=api, project="p", bucket=site.servers.bucket)
        with published(address, site.folder):
            async with site.process("services.process", **said) as first:
                await site.command("bulk-import", "archive/")
                await eventually(lambda: made(100), within_seconds=PATIENCE_SECONDS)
                await first.child.kill9()
            assert not await ended()

            await site.shift_clock(LEASE_SECONDS + 1)
            async with open_database(site.servers.environment()["DATABASE_URL"], size=1) as database:
                await PostgresRecoverStore(database).rescue_expired(limit=50)
            async with site.process("services.process", **said):
                await site.upload("now.txt", b"Somebody waits for this.")
                (now,) = await site.ended("now.txt", within_seconds=PATIENCE_SECONDS)
                assert (now["status"], now["lane"]) == ("completed", "interactive")
                assert not await ended(), "the import had come to its end before"
                await eventually(ended, within_seconds=PATIENCE_SECONDS)
                again = await site.command("bulk-import", "archive/", "--watch")

    assert MAX_PENDING / 2 < most <= MAX_PENDING
    done = await site.rows(
        "select name, count(*) as jobs, min(status) as status, min(lane) as lane from document_processing_jobs"
        " where starts_with(name, 'archive/') group by name"
    )
    assert {(row["jobs"], row["status"], row["lane"]) for row in done} == {(1, "completed", "bulk")}
    assert len(done) == OBJECTS
    assert await site.value("select count(*) from documents where live_job_id is not null") == OBJECTS + 1
    backfills = await site.rows(IMPORT.replace("desc limit 1", "").replace("*", "result -> 'jobs' as jobs"))
    assert [row["jobs"] for row in backfills] == ['{"completed": 300}', "{}"]
    assert "unchanged  300" in " ".join(again.split("\n")).replace("   ", "  ")
