"""Faults that other queues had, and their users paid for: each is a test, here or where its subject is tested.

The table of all of them, with where they were seen, is in `tests/README.md`; the last test here holds it to the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.recover.budget import Budget
from services.recover.duties import queue
from shared.clock import SystemClock
from shared.errors import DependencyUnavailable, HeadraceError
from shared.events.catalogue import WorkBell
from shared.events.envelope import attributes_of, body_of
from shared.model.job import Lane
from shared.ports.broker import Delivery
from shared.postgres.recover import PostgresRecoverStore
from tests.architecture.repository import ROOT
from tests.plugins.crashes import Died, Fault, faulty_road
from tests.plugins.road import Road, delivery
from tests.plugins.stack import Site
from tests.services.recover.rows import flood

LONG_SECONDS = 3600.0


async def one_job(road: Road, name: str = "a.txt", content: bytes = b"one\ntwo\nthree") -> None:
    """Put one file on the road."""
    road.bucket.put(name, content)
    await road.notify(name)


async def job(road: Road) -> dict[str, object]:
    """Return the only job."""
    (row,) = await road.fetch("select * from document_processing_jobs")
    return dict(row)


def ring_alone() -> Delivery:
    """Make a bell for jobs that were rescued."""
    bell = WorkBell(lane=Lane.INTERACTIVE, quarantined=True)
    return delivery("work-interactive", body_of(bell), attributes_of(bell))


async def test_rows_that_cannot_be_rescued_do_not_starve_one_that_can(road: Road) -> None:
    """A thousand jobs whose documents somebody holds stand in front; the one behind them is rescued all the same."""
    await flood(road, 1000, status="processing", lease_until="now() - interval '2 hours'")
    await flood(road, 1, status="processing", organization="free")
    store, budget = PostgresRecoverStore(road.database), Budget(SystemClock(), 60.0)
    async with road.database.transaction() as held:
        await held.execute("select 1 from documents where organization_id = 'acme' for update")
        counts = await asyncio.create_task(queue.rescue(store, budget, batch_size=50))
    assert counts == {"rescued": 1, "failed": 0, "skipped": 1000, "errors": 0}
    assert await road.value("select status from document_processing_jobs where organization_id = 'free'") == "pending"


async def test_work_without_an_end_is_never_rescued_while_its_worker_lives(road: Road) -> None:
    """Only silence is a reason: after an hour of heartbeats the job is still its worker's."""
    await one_job(road)
    held = await road.queue.claim(Lane.INTERACTIVE, worker="slow")
    assert held is not None
    for beat in range(1, 73):
        await road.shift_clock(beat * 50.0)
        await road.queue.renew(held.lease)
        if beat % 10 == 0:
            assert (await road.recover())["duties"]["rescue"]["rescued"] == 0
    row = await job(road)
    assert (row["status"], row["rescue_count"], row["lease_owner"]) == ("processing", 0, "slow")


async def test_a_statement_time_out_in_a_rescue_costs_the_rows_that_cause_it(road: Road) -> None:
    """One row is too slow to be written: the batches get smaller, all others are rescued, and the run ends."""
    await flood(road, 30, status="processing")
    await road.fetch(
        "create function slow() returns trigger language plpgsql as $$ begin "
        "if new.name = 'acme/00000007' and new.status = 'pending' then perform pg_sleep(30); end if; return new; end $$"
    )
    await road.fetch(
        "create trigger slow before update on document_processing_jobs for each row execute function slow()"
    )
    store = PostgresRecoverStore(road.database, rescue_statement_seconds=0.2)
    counts = await queue.rescue(store, Budget(SystemClock(), 60.0), batch_size=50)
    assert counts == {"rescued": 29, "failed": 0, "skipped": 0, "errors": 1}


async def test_the_late_finish_of_a_fenced_off_owner_changes_nothing(road: Road) -> None:
    """The first worker was only slow: going on while its successor is in the middle of the job, it writes nothing."""
    await one_job(road)
    stands = [asyncio.Event(), asyncio.Event()]
    go_on = [asyncio.Event(), asyncio.Event()]
    waits = iter(zip(stands, go_on, strict=True))
    embed = road.embedder.embed

    async def stand_still(*arguments: object, **named: object) -> object:
        if turn := next(waits, None):
            turn[0].set()
            await turn[1].wait()
        return await embed(*arguments, **named)

    async def all_rows() -> list[list[object]]:
        # What is told to the broker meanwhile is nobody's write on the job.
        lines = "(select job_id, seq, status, stage, occurred_at, detail from job_events)"
        tables = ("document_processing_jobs", "documents", "chunks", "embeddings", "dead_letters", lines)
        return [await road.fetch(f"select * from {table} t order by t::text") for table in tables]

    road.embedder.embed = stand_still
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        first = group.create_task(road.ring())
        await stands[0].wait()
        await road.shift_clock(LONG_SECONDS)
        assert (await road.recover())["duties"]["rescue"]["rescued"] == 1
        second = group.create_task(road.worker("second")(ring_alone()))
        await stands[1].wait()
        before = await all_rows()
        go_on[0].set()
        assert (await first).name == "lease_lost"
        assert await all_rows() == before
        assert (await job(road))["status"] == "processing"
        go_on[1].set()
    assert second.result().name == "done"
    ended = await job(road)
    assert (ended["status"], ended["attempts"], ended["rescue_count"]) == ("completed", 1, 1)
    assert await road.in_step()


async def test_twenty_shutdowns_leave_the_attempts_where_they_were(road: Road) -> None:
    """However often a worker is told to stop in the middle, the job is handed back uncharged, and then done."""
    await one_job(road)
    embed = road.embedder.embed
    for _ in range(20):
        reached = asyncio.Event()

        async def hang(*_: object, reached: asyncio.Event = reached, **__: object) -> object:
            reached.set()
            return await asyncio.Event().wait()

        road.embedder.embed = hang
        running = asyncio.ensure_future(road.ring())
        await reached.wait()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        row = await job(road)
        assert (row["status"], row["attempts"], row["retry_count"], row["rescue_count"]) == ("pending", 0, 0, 0)
    road.embedder.embed = embed
    await road.work_off()
    row = await job(road)
    assert (row["status"], row["attempts"]) == ("completed", 1)


async def test_a_bell_and_a_notification_that_come_again_do_nothing(road: Road) -> None:
    """The result is committed and the ack was lost: what is delivered again finds nothing to do and pays nothing."""
    await one_job(road)
    assert (await road.ring()).name == "done"
    before, calls = await job(road), len(road.embedder.calls)
    for _ in range(3):
        assert (await road.ring()).name == "nothing_due"
        await road.notify("a.txt")
    assert await job(road) == before
    assert len(road.embedder.calls) == calls


@pytest.mark.parametrize("write", ["after commit of", "before commit of"])
async def test_a_commit_whose_answer_was_lost_is_done_once(road: Road, write: str) -> None:
    """At each commit of an attempt the connection is cut, and the worker cannot know: one result, one payment."""
    await one_job(road)
    process, faults = faulty_road(road)
    await process.ring()
    points = [number for number, point in enumerate(faults.passed) if point.startswith(write)]
    assert len(points) >= 4
    for number, at in enumerate(points):
        name = f"again-{number}.txt"
        await one_job(road, name, f"{name} one\n{name} two".encode())
        calls = len(road.embedder.calls)
        process, _ = faulty_road(road, at=at, fault=Fault.CUT)
        with contextlib.suppress(HeadraceError):
            await process.ring()
        await road.shift_clock(LONG_SECONDS * (number + 1))
        await road.recover()
        await road.work_off()
        assert await road.visible(name) == [f"{name} one", f"{name} two"]
        assert len(road.embedder.calls) - calls <= 2
        ends = "select count(*) from job_events e join document_processing_jobs j on j.id = e.job_id"
        assert await road.value(f"{ends} where name = $1 and e.status = 'completed'", name) == 1
    assert await road.value("select count(*) from document_processing_jobs where attempts > 2") == 0


async def test_what_was_committed_and_not_published_is_published_by_recover(road: Road) -> None:
    """The process dies between its commit and its publish: the next recover run rings, and the file is indexed."""
    road.bucket.put("a.txt", b"text")
    process, faults = faulty_road(road, named=("before publish to work", 0))
    with contextlib.suppress(Died):
        await process.notify("a.txt")
    assert faults.dead
    assert road.publisher.of("work") == []
    assert (await job(road))["status"] == "pending"
    await road.shift_clock(120)
    await road.recover()
    assert len(road.publisher.of("work")) == 1
    assert (await road.ring()).name == "done"
    assert await road.in_step()


@pytest.mark.slow
async def test_a_job_that_kills_its_worker_dies_alone(site: Site) -> None:
    """It ends `WORKER_LOST` after its rescues, and twenty neighbours complete without being charged for its deaths."""
    rescues = 2
    healthy = [f"healthy-{number:02}.txt" for number in range(20)]
    said = {"MAX_RESCUES": rescues, "PROCESS_CONCURRENCY": 6}
    deaths, shifted = 0, 0.0
    async with site.service(build_ingest, IngestSettings):
        for name in [*healthy[:4], "poison.txt", *healthy[4:]]:
            await site.upload(name, f"The gate of {name} closes in 75 seconds.".encode())

        async def poison() -> dict[str, object]:
            row = await site.job("poison.txt")
            return dict(row) if row is not None else {}

        while (await poison()).get("status") != "failed":
            assert deaths <= rescues, "it goes on for ever"
            with contextlib.suppress(DependencyUnavailable):  # it may die before it has said that it started
                async with site.process("tests.component.poisoned_worker", **said) as worker, asyncio.timeout(60):
                    assert await worker.child.wait_ended() == 9
            deaths += 1
            shifted += LONG_SECONDS
            await site.shift_clock(shifted)
            await site.recover_once(MAX_RESCUES=rescues)
        async with site.process("tests.component.poisoned_worker", **said):
            jobs = await site.ended(*healthy)
    assert deaths == rescues + 1
    dead = await poison()
    assert (dead["error_code"], dead["rescue_count"]) == ("WORKER_LOST", rescues)
    assert [(job["status"], job["attempts"], job["retry_count"]) for job in jobs] == [("completed", 1, 0)] * 20
    assert max(job["rescue_count"] for job in jobs) <= 1  # of those that were in hand when it died first
    assert await site.value("select count(*) from dead_letters where state = 'open'") == 1


def test_every_fault_has_its_test() -> None:
    """Each test that the table of `tests/README.md` names exists, in the file that it names."""
    page = (ROOT / "tests" / "README.md").read_text()
    table = page.partition("## Faults that others paid for")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| fault")]
    assert len(rows) >= 16
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in (ROOT / file).read_text(), f"{file}::{test}"
