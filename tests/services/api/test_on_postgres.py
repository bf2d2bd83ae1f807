"""The api on a real database: tenants, pages under inserts, retry and cancel, and text that means to be SQL."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest

from services.api.app import build, callers, endpoints
from services.api.settings import ApiSettings
from services.api.web import application
from shared.clock import SystemClock
from shared.ids import text_hash
from shared.model.decision import Index, Owner
from shared.model.document import Chunk, ObjectMetadata, ObjectRef
from shared.model.job import Job, Lane, Stage
from shared.model.locator import Locator, LocatorKind
from shared.ports.stores import Failure
from shared.postgres.chunks import PostgresChunkIndex
from shared.postgres.directory import PostgresJobDirectory
from shared.postgres.documents import PostgresDocumentStore
from shared.postgres.jobs import PostgresWorkQueue
from shared.postgres.pool import Database, open_database
from shared.runtime.app import Service, running
from shared.settings import load
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from tests.services.api.conftest import SETTINGS
from tests.services.api.fakes import SPACE, FakeEmbedder

LIST = "/api/v1/admin/jobs"


@dataclass
class World:
    """A database with what workers would do to it, and the api in front of it."""

    database: Database
    address: str
    session: aiohttp.ClientSession

    async def arrive(self, name: str, *, organization: str = "acme", user: str | None = None) -> UUID:
        """Decide on a new object, as ingest would, and return its job."""
        live = ObjectMetadata(
            ref=ObjectRef("uploads", name), generation=uuid4().int >> 70, metageneration=1, size_bytes=10,
            crc32c=None, md5=uuid4().hex, content_type=None, updated_at=None,
        )  # fmt: skip
        documents = PostgresDocumentStore(self.database)
        known = await documents.read(live.ref)
        done = await documents.commit(
            live.ref,
            Index(live, Owner(organization_id=organization, user_id=user)),
            expected_revision=0 if known is None else known.revision,
        )
        assert done is not None
        assert done.job_id is not None
        return done.job_id

    async def claim(self) -> Job:
        """Take the next job, as process would."""
        job = await PostgresWorkQueue(self.database).claim(Lane.INTERACTIVE, worker="test")
        assert job is not None
        return job

    async def fail(self, code: str) -> UUID:
        """Claim the next job and end it with that error."""
        job = await self.claim()
        await PostgresWorkQueue(self.database).fail(job.lease, Failure(code=code, message="It cannot be read."))
        return job.id

    async def index(self, text: str) -> None:
        """Claim the next job and complete it with one passage."""
        queue = PostgresWorkQueue(self.database)
        lease = (await self.claim()).lease
        locator = Locator(kind=LocatorKind.TEXT, start_char=0, end_char=len(text))
        await queue.enter(lease, Stage.DOWNLOADING)
        chunk = Chunk(ordinal=0, text=text, locator=locator, text_hash=text_hash(text))
        await queue.add_chunks(lease, [chunk], checkpoint={})
        await queue.add_embeddings(lease, SPACE, [(chunk.text_hash, [1.0, 0.0, 0.0])], tokens=1, calls=1)
        await queue.complete(lease, SPACE, result={})

    async def ask(self, method: str, path: str, *, as_: str | None = None, **options: Any) -> tuple[int, Any]:
        """Ask the api as an administrator, or as a member of an organization."""
        headers = {} if as_ is None else {"X-Headrace-Organization": as_, "X-Headrace-Role": "member"}
        async with self.session.request(method, self.address + path, headers=headers, **options) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """Give a fresh database and an api in front of it."""
    settings = load(ApiSettings, SETTINGS | {"API_SEARCH_TIMEOUT_SECONDS": "15"})
    async with (
        open_database(database_url, size=5) as database,
        Tracing("api") as tracing,
        Metrics("api") as metrics,
        aiohttp.ClientSession() as session,
    ):
        closing = asyncio.Event()

        async def close_streams() -> None:
            closing.set()

        routes = endpoints(
            PostgresJobDirectory(database),
            PostgresChunkIndex(database),
            FakeEmbedder(),
            SystemClock(),
            settings,
            closing,
        )
        app = application(routes, callers(settings), tracing=tracing, metrics=metrics)
        async with running(Service(name="api", application=app, on_stop=[close_streams]), settings) as address:
            yield World(database, address, session)


async def test_a_tenant_sees_only_its_own(world: World) -> None:
    """Jobs, streams and passages of another organization do not exist for a caller."""
    mine, others = await world.arrive("acme/a.txt"), await world.arrive("rival/b.txt", organization="rival")
    for _ in range(2):
        await world.index("The intake gate opens at dawn.")
    assert (await world.ask("GET", f"/api/v1/jobs/{mine}", as_="acme"))[0] == 200
    for path in (f"/api/v1/jobs/{others}", f"/api/v1/jobs/{others}/events"):
        assert (await world.ask("GET", path, as_="acme"))[0] == 404
    for organization, name in (("acme", "acme/a.txt"), ("rival", "rival/b.txt"), ("nobody", None)):
        _, found = await world.ask("POST", "/api/v1/search", as_=organization, json={"query": "intake gate"})
        assert [hit["name"] for hit in found["hits"]] == ([] if name is None else [name])


async def test_a_ledger_adds_up(world: World) -> None:
    """A completed job's stages are there once, in order, and waiting and working make up the whole time."""
    job_id = await world.arrive("acme/a.txt")
    await world.index("The gate opens at dawn.")
    _, job = await world.ask("GET", f"/api/v1/jobs/{job_id}")
    stages = [entry["stage"] for entry in job["ledger"]]
    assert (stages[0], stages[-1], len(stages)) == ("pending", "completed", len(set(stages)))
    assert (job["status"], job["processing_stage"]) == ("completed", "completed")
    totals = job["totals"]
    assert abs(totals["elapsed_ms"] - totals["wait_ms"] - totals["work_ms"]) <= len(stages)


async def test_pages_over_500_jobs_stay_right_while_jobs_arrive(world: World) -> None:
    """Each job that was there at the start is listed exactly once, newest first, whatever arrives meanwhile."""
    there = [str(await world.arrive(f"acme/{number:03}.txt")) for number in range(500)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "70"} | ({"cursor": cursor} if cursor else {})
        _, page = await world.ask("GET", LIST, params=query)
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await world.arrive(f"late/{len(seen)}.txt")
    assert sorted(seen) == sorted(there)
    newest_first = [job_id for job_id in reversed(there) if job_id in seen]
    assert seen == newest_first


async def test_filters_meet_the_database(world: World) -> None:
    """Status, error, organization and prefix narrow the list; a prefix is text, not a pattern."""
    for name in ("acme/50%_a.txt", "acme/50xxa.txt"):
        await world.arrive(name)
    await world.arrive("rival/c.txt", organization="rival")
    failed = str(await world.fail("CORRUPT"))
    for query, count in (
        ({"status": "failed"}, 1), ({"status": "pending"}, 2), ({"error_code": "CORRUPT"}, 1),
        ({"organization_id": "rival"}, 1), ({"prefix": "acme/50%_"}, 1), ({"prefix": "acme/"}, 2),
        ({"prefix": "' or true --"}, 0), ({"organization_id": "acme' or '1'='1"}, 0), ({"job_type": "bulk_import"}, 0),
    ):  # fmt: skip
        status, page = await world.ask("GET", LIST, params=query)
        assert (status, len(page["jobs"])) == (200, count), query
    _, page = await world.ask("GET", LIST, params={"stage": "failed"})
    assert [job["id"] for job in page["jobs"]] == [failed]


@pytest.mark.parametrize(
    "text", ["bogus", "AAAA", "x" * 512, "0001-01-01T00:00:00+14:00|%s", "9999-12-31T23:59:59-14:00|%s", "2026-01-01|x"]
)
async def test_cursors_that_are_not_ours_are_refused(world: World, text: str) -> None:
    """A cursor that was made up is a bad request, also when it is well-formed and impossible."""
    cursor = base64.urlsafe_b64encode((text % uuid4()).encode()).decode() if "%s" in text else text
    status, problem = await world.ask("GET", LIST, params={"cursor": cursor})
    assert (status, problem["code"]) == (400, "INVALID_REQUEST")


async def test_retry_and_cancel_follow_the_job(world: World) -> None:
    """Only what has failed or was cancelled is retried, only what has not ended is cancelled, and twice is allowed."""
    job_id = await world.arrive("acme/a.txt")
    retry, job = f"{LIST}/{job_id}/retry", f"{LIST}/{job_id}"
    assert (await world.ask("POST", retry))[1]["code"] == "NOT_RETRYABLE_STATE"
    await world.fail("CORRUPT")
    assert (await world.ask("DELETE", job))[1]["code"] == "NOT_CANCELLABLE_STATE"
    status, again = await world.ask("POST", retry)
    assert (status, again["status"], again["processing_stage"], again["attempts"]) == (200, "pending", "pending", 0)
    for _ in range(2):
        status, cancelled = await world.ask("DELETE", job)
        assert (status, cancelled["status"]) == (200, "cancelled")
    assert (await world.ask("POST", retry))[0] == 200
    assert (await world.ask("POST", f"{LIST}/{uuid4()}/retry"))[0] == 404


async def test_the_job_of_an_older_version_is_not_retried(world: World) -> None:
    """When the file has changed since, its newer job counts."""
    old = await world.arrive("acme/a.txt")
    await world.fail("CORRUPT")
    await world.arrive("acme/a.txt")
    status, problem = await world.ask("POST", f"{LIST}/{old}/retry")
    assert (status, problem["code"]) == (409, "SUPERSEDED")


@pytest.mark.parametrize(
    "query",
    [
        "'; drop table chunks; --",
        "gate & | ! ( <-> :*",
        "\\ % _ \" ''",
        "🚰 نص",
        "$1 :text ::text",
        "a" * 2000,
        "( ( (",
    ],
)
async def test_a_question_is_only_text(world: World, query: str) -> None:
    """Quotes, operators of the text search and parameters in a question change nothing but its words."""
    await world.arrive("acme/a.txt")
    await world.index("The intake gate opens at dawn.")
    status, found = await world.ask("POST", "/api/v1/search", as_="acme", json={"query": query})
    assert (status, len(found["hits"])) == (200, 1)


async def test_prefix_and_type_narrow_a_search(world: World) -> None:
    """Passages of other names are left out."""
    await world.arrive("acme/a.txt")
    await world.index("The intake gate opens at dawn.")
    for prefix, count in (("acme/", 1), ("acme/b", 0), ("%", 0)):
        body = {"query": "gate", "prefix": prefix}
        _, found = await world.ask("POST", "/api/v1/search", as_="acme", json=body)
        assert len(found["hits"]) == count


async def test_stats_count_what_is_there(world: World) -> None:
    """Statuses, causes, lanes, passages and open dead letters."""
    for number in range(3):
        await world.arrive(f"acme/{number}.txt")
    await world.index("The gate opens at dawn.")
    await world.fail("CORRUPT")
    _, stats = await world.ask("GET", f"{LIST}/stats")
    assert stats["by_status"] == {"completed": 1, "failed": 1, "pending": 1}
    assert stats["by_error_code"] == {"CORRUPT": 1}
    assert stats["by_lane_pending"] == {"interactive": 1}
    assert (stats["documents"], stats["chunks"], stats["dead_letters_open"]) == (1, 1, 1)


async def test_a_stream_follows_a_real_job_to_its_end(world: World) -> None:
    """A client that is connected before the work starts sees every move and the end."""
    job_id = await world.arrive("acme/a.txt")
    async with world.session.get(f"{world.address}/api/v1/jobs/{job_id}/events") as answer:
        await world.index("The gate opens at dawn.")
        async with asyncio.timeout(10):
            text = await answer.text()
    assert text.count("event: stage") >= 3
    assert text.rstrip().splitlines()[-2] == "event: end"


async def test_the_service_is_built_as_it_runs(database_url: str) -> None:
    """The composition root opens everything, is ready, searches with the real model, and closes."""
    said = {"DATABASE_URL": database_url, "API_SEARCH_TIMEOUT_SECONDS": "30"}
    said |= {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1"}  # opened, and not asked for anything
    settings = load(ApiSettings, SETTINGS | said)
    async with AsyncExitStack() as stack:
        service = await build(settings, stack)
        async with running(service, settings) as address, aiohttp.ClientSession() as session:
            async with session.get(f"{address}/readyz") as answer:
                assert (answer.status, (await answer.json())["checked"]) == (200, ["database", "model"])
            async with session.post(f"{address}/api/v1/search", json={"query": "gate"}) as answer:
                assert (answer.status, (await answer.json())["hits"]) == (200, [])
