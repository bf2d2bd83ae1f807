"""How much memory a service takes together with its children, and files that make it take some."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from shared.clock import SystemClock
from tests.plugins.hostile import pdf, seeds
from tests.plugins.stack import Site, eventually

_LOOK_SECONDS = 0.1
_LINES_PER_PAGE = 12
ROUND = 100
"""Files that are fed together."""


@dataclass(slots=True)
class Memory:
    """What was seen. Proportional: a page that processes share counts once, so that the sum is what a container has."""

    peak_bytes: int = 0
    """Of all processes at one moment."""
    peak_of_service_bytes: int = 0
    """Of the service without its children."""
    most_processes: int = 0
    now: list[int] = field(default_factory=list)
    """Each process's share when last looked, the service first."""


@asynccontextmanager
async def watched(pid: int) -> AsyncIterator[Memory]:
    """Look ten times a second at a process and all its descendants while the block runs."""
    seen, clock = Memory(), SystemClock()

    async def look() -> None:
        while True:
            seen.now = await asyncio.to_thread(shares, pid)
            seen.peak_bytes = max(seen.peak_bytes, sum(seen.now))
            seen.peak_of_service_bytes = max(seen.peak_of_service_bytes, seen.now[0])
            seen.most_processes = max(seen.most_processes, len(seen.now))
            await clock.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def shares(pid: int) -> list[int]:
    """Return the proportional set size of a process and of each of its descendants, in bytes."""
    process = psutil.Process(pid)
    found = [_share(pid)]
    for child in process.children(recursive=True):
        with contextlib.suppress(OSError, ValueError):  # it has ended
            found.append(_share(child.pid))
    return found


def _share(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def long_report(pages: int) -> bytes:
    """Return a PDF of so many pages of text, no two lines the same."""
    return pdf(pages, lines=_LINES_PER_PAGE)


async def feed(site: Site, first: int, *, within_seconds: float = 600) -> None:
    """Upload a round of small files, all kinds in turn, and wait until none of their jobs is left to do."""
    kinds = list(seeds().values())
    for number in range(first, first + ROUND):
        name, data = kinds[number % len(kinds)]
        await site.upload(f"{number}-{name}", data)

    async def look() -> bool:
        ended = "select count(*) from document_processing_jobs where status in ('completed', 'failed')"
        return int(await site.value(ended)) >= first + ROUND

    await eventually(look, within_seconds=within_seconds)
    assert not await site.value("select count(*) from document_processing_jobs where status = 'failed'")


async def at_rest(pid: int) -> list[int]:
    """Return the shares of the service and of the one child that waits for work, once there is no other."""
    process = psutil.Process(pid)

    async def look() -> bool:
        return len(process.children(recursive=True)) == 1

    await eventually(look)
    return await asyncio.to_thread(shares, pid)


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much the second value grows with the first, by least squares; 0 for fewer than two points."""
    if len(points) < 2:
        return 0.0
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread
