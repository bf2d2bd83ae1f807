"""Postgres restarted, killed and cut off under load: how soon the services are back at the rate that they had before.

Nobody starts a service again here: one that ends makes the run fail. Files come all the time, more than are worked
off, so that the rate is the services' own; it is taken from the times that the rows say, before and after each fault.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from crew import AWAY, WORKERS, Crew, cut_connections

from shared.clock import SystemClock
from tests.plugins.model_server import model_server
from tests.plugins.stack import Site, new_site_with_postgres

BACKLOG = 120
"""Files that wait, at least, as long as anything is measured."""
BEFORE_SECONDS = 15.0
AFTER_SECONDS = 30.0
WINDOW = timedelta(seconds=5)
FULL_RATE = 0.9
"""Of the rate before: over a window of five seconds that is as much as chance leaves of it."""

clock = SystemClock()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One fault; seconds count from the moment in which Postgres answered again (None: never, within the run)."""

    what: str
    away_seconds: float
    before_per_second: float
    after_per_second: float
    first_seconds: float | None
    full_seconds: float | None
    decided_seconds: float | None
    """Until ingest made the next job."""

    @property
    def right(self) -> bool:
        """Whether the work went on at its full rate."""
        return None not in (self.first_seconds, self.full_seconds, self.decided_seconds)

    def row(self) -> str:
        """Return its line of the table."""
        cells = [self.what, f"{self.away_seconds:.1f} s", f"{self.before_per_second:.1f}"]
        cells += [_said(self.decided_seconds), _said(self.first_seconds), _said(self.full_seconds)]
        return "| " + " | ".join([*cells, f"{self.after_per_second:.1f}"]) + " |"


async def restart() -> tuple[str, bool]:
    """Make one run; return its table, and whether everything came back by itself."""
    measured: list[Measured] = []
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(model_server())
        site = await stack.enter_async_context(new_site_with_postgres())
        crew = Crew(site, model.environment())
        services = {"ingest": "services.ingest", "recover": "services.recover"}
        services |= {f"process-{number}": "services.process" for number in range(WORKERS)}
        await stack.enter_async_context(crew.working(services))
        feeder = asyncio.ensure_future(_feed(site))
        stack.callback(feeder.cancel)
        await _until(lambda: _completed_more_than(site, 20))
        postgres = site.servers.postgres
        faults: dict[str, Callable[[], Awaitable[object]]] = {
            "restart (fast shutdown)": postgres.stop,
            "kill -9": postgres.kill9,
            "every backend terminated": lambda: cut_connections(site),
        }
        for what, fault in faults.items():
            measured.append(await _measure(site, what, fault))
        feeder.cancel()
        ended = sum(crew.starts.values()) - len(services)
        charged = await site.value("select count(*) from document_processing_jobs where attempts > 1")
        failed = await site.value("select count(*) from document_processing_jobs where status = 'failed'")
    lines = [
        f"| fault | away | jobs/s before | next decision | next job | {FULL_RATE:.0%} of the rate | jobs/s after |",
        "|---|---|---|---|---|---|---|",
        *(one.row() for one in measured),
        "",
        f"Services that ended: **{ended}**. Jobs failed: **{failed}**, charged with an attempt: **{charged}**.",
        "Next decision, next job and rate: seconds since Postgres answered again.",
    ]
    return "\n".join(lines) + "\n", all(one.right for one in measured) and not ended + charged + failed


async def _measure(site: Site, what: str, fault: Callable[[], Awaitable[object]]) -> Measured:
    await clock.sleep(BEFORE_SECONDS)
    began = clock.now()
    await fault()
    await _until(lambda: _answers(site))
    back = clock.now()
    await clock.sleep(AFTER_SECONDS)
    completed = await _times(site, "completed_at")
    decided = await _times(site, "created_at")
    before = _rate(completed, began - timedelta(seconds=BEFORE_SECONDS), began)
    full_at = _full_from(completed, back, before)
    return Measured(
        what=what,
        away_seconds=(back - began).total_seconds(),
        before_per_second=before,
        after_per_second=_rate(completed, full_at or back, back + timedelta(seconds=AFTER_SECONDS)),
        first_seconds=_since(back, next((at for at in completed if at > back), None)),
        full_seconds=_since(back, full_at),
        decided_seconds=_since(back, next((at for at in decided if at > back), None)),
    )


def _full_from(completed: Sequence[datetime], back: datetime, before: float) -> datetime | None:
    """Return the first moment from which a window has the rate of before."""
    last = back + timedelta(seconds=AFTER_SECONDS) - WINDOW
    starts = [back, *(at for at in completed if back < at <= last)]
    return next((at for at in starts if _rate(completed, at, at + WINDOW) >= FULL_RATE * before), None)


def _rate(times: Sequence[datetime], since: datetime, until: datetime) -> float:
    return sum(since <= at < until for at in times) / (until - since).total_seconds()


async def _times(site: Site, column: str) -> list[datetime]:
    rows = await site.rows(f"select {column} from document_processing_jobs where {column} is not null order by 1")
    return [row[column] for row in rows]


def _since(start: datetime, at: datetime | None) -> float | None:
    return None if at is None else (at - start).total_seconds()


def _said(seconds: float | None) -> str:
    return "**never**" if seconds is None else f"{seconds:.1f} s"


async def _feed(site: Site) -> None:
    """Upload so that there is always a backlog."""
    number = 0
    while True:
        try:
            waiting = await site.value("select count(*) from document_processing_jobs where status = 'pending'")
        except AWAY:
            waiting = 0  # files come also while the database is away
        if waiting >= BACKLOG:
            await clock.sleep(0.2)
            continue
        for _ in range(10):
            await site.upload(f"file-{number:05}.md", f"Valve {number} opens at {number} bar.".encode())
            number += 1
        await clock.sleep(0.1)


async def _completed_more_than(site: Site, count: int) -> bool:
    done: int = await site.value("select count(*) from document_processing_jobs where status = 'completed'")
    return done > count


async def _answers(site: Site) -> bool:
    try:
        return bool(await site.value("select true"))
    except AWAY:
        return False


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    while not await look():
        await clock.sleep(0.05)
