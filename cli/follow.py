"""From uploads to their ends: watches, through the API, what became of generations that were just written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import commonprefix

from cli.board import Row
from cli.client import Api
from services.api.schemas import JobView
from shared.clock import Clock
from shared.errors import DependencyUnavailable
from shared.model.job import TERMINAL, Status

POLL_SECONDS = 0.25
COMPARED_SECONDS = 5.0
"""How long an upload may have no job before bucket and index are compared at its name, and then how often they are."""
STRETCH = 100
"""How many names are compared at once: as many as the API names differences, so that it leaves none of them out."""
UNNOTICED_SECONDS = 420.0
"""How long a new object may have no job: a recover run finds lost notifications every five minutes."""
PAGE = 200
_CURSOR_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """A generation that was written."""

    name: str
    generation: int
    row: Row


async def until_ended(
    api: Api,
    uploads: Sequence[Upload],
    clock: Clock,
    *,
    changed: Callable[[], None],
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Return when every upload has ended; its row holds its job as last seen.

    Raises:
        DependencyUnavailable: `NOT_NOTICED`, when the stack shows no job for an upload for too long.
    """
    started = compared = clock.monotonic()
    prefix = commonprefix([upload.name for upload in uploads])  # noqa: RUF071 - names, of which the API takes any prefix
    while True:
        waiting = [upload for upload in uploads if not upload.row.ended]
        if not waiting:
            return
        # Before the jobs are looked at: what is in step by now and has no job even then needs none.
        in_step: set[str] = set()
        if clock.monotonic() - compared >= COMPARED_SECONDS:
            compared = clock.monotonic()
            in_step = await _in_step(api, [upload.name for upload in waiting if upload.row.job is None])
        jobs, indexed = await _look(api, prefix, waiting)
        for upload in waiting:
            upload.row.job = jobs.get((upload.name, str(upload.generation)), upload.row.job)
            if upload.row.job is None and upload.name in in_step & indexed:
                upload.row.unchanged = True
        changed()
        waited = clock.monotonic() - started
        if waited >= UNNOTICED_SECONDS and any(upload.row.job is None for upload in waiting if not upload.row.ended):
            raise DependencyUnavailable(
                "the stack shows no job for some of these files; look at `./headrace doctor`", code="NOT_NOTICED"
            )
        await clock.sleep(poll_seconds)


async def _look(api: Api, prefix: str, waiting: Sequence[Upload]) -> tuple[dict[tuple[str, str], JobView], set[str]]:
    """Return the jobs of these uploads by name and generation, and the names that have been indexed by ended jobs."""
    wanted = {(upload.name, str(upload.generation)) for upload in waiting}
    found: dict[tuple[str, str], JobView] = {}
    worked_on: set[str] = set()
    indexed: set[str] = set()
    cursor: str | None = None
    while True:
        page = await api.jobs(prefix=prefix, cursor=cursor, limit=PAGE)
        for job in page.jobs:
            name = _name(job.file_path or "")
            if (name, job.generation) in wanted:
                found[name, job.generation or ""] = job
            if job.status is Status.COMPLETED:
                indexed.add(name)
            elif job.status not in TERMINAL:
                worked_on.add(name)
        cursor = page.next_cursor
        if cursor is None or wanted <= found.keys():
            return found, indexed - worked_on
        await asyncio.sleep(0)


async def _in_step(api: Api, names: Sequence[str]) -> set[str]:
    """Return at which of these names bucket and index are known to be in step: also those that are in neither."""
    agreed: set[str] = set()
    left, cursor = sorted(names), ""
    while left:
        begin = max(cursor, _shortly_before(left[0]))
        try:
            seen = await api.drift(repair=False, cursor=begin, limit=STRETCH, examples=STRETCH)
        except DependencyUnavailable:
            return agreed  # asked again; if it is the api that is away, the look at the jobs says so
        differing = {_name(uri) for uris in seen.examples.values() for uri in uris}
        compared = [name for name in left if seen.next_cursor is None or name <= seen.next_cursor]
        agreed.update(name for name in compared if name not in differing)
        if seen.next_cursor is None or seen.next_cursor <= begin:
            return agreed
        left, cursor = left[len(compared) :], seen.next_cursor
    return agreed


def _shortly_before(name: str) -> str:
    """Return a text that sorts before a name, with few names between them; empty: the beginning."""
    previous = chr(ord(name[-1]) - 1)
    return (name[:-1] + (previous + "~" if previous.isprintable() else ""))[:_CURSOR_LIMIT]


def _name(uri: str) -> str:
    """Return the object's name out of `gs://bucket/name`."""
    return uri.removeprefix("gs://").partition("/")[2]
