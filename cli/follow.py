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
from shared.model.job import Status

POLL_SECONDS = 0.25
ADOPTED_SECONDS = 5.0
"""How long a generation may have no job, when its name is indexed already, before it counts as unchanged."""
UNNOTICED_SECONDS = 420.0
"""How long a new object may have no job: a recover run finds lost notifications every five minutes."""
PAGE = 200


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
    started = clock.monotonic()
    prefix = commonprefix([upload.name for upload in uploads])  # noqa: RUF071 - names, of which the API takes any prefix
    while True:
        waiting = [upload for upload in uploads if not upload.row.ended]
        if not waiting:
            return
        jobs, indexed = await _look(api, prefix, waiting)
        waited = clock.monotonic() - started
        for upload in waiting:
            upload.row.job = jobs.get((upload.name, str(upload.generation)), upload.row.job)
            if upload.row.job is None and waited >= ADOPTED_SECONDS and upload.name in indexed:
                upload.row.unchanged = True
        changed()
        if waited >= UNNOTICED_SECONDS and any(upload.row.job is None for upload in waiting if not upload.row.ended):
            raise DependencyUnavailable(
                "the stack shows no job for some of these files; look at `./headrace doctor`", code="NOT_NOTICED"
            )
        await clock.sleep(poll_seconds)


async def _look(api: Api, prefix: str, waiting: Sequence[Upload]) -> tuple[dict[tuple[str, str], JobView], set[str]]:
    """Return the jobs of these uploads by name and generation, and the names that have a completed job at all."""
    wanted = {(upload.name, str(upload.generation)) for upload in waiting}
    found: dict[tuple[str, str], JobView] = {}
    indexed: set[str] = set()
    cursor: str | None = None
    while True:
        page = await api.jobs(prefix=prefix, cursor=cursor, limit=PAGE)
        for job in page.jobs:
            name = _name(job)
            if (name, job.generation) in wanted:
                found[name, job.generation or ""] = job
            if job.status is Status.COMPLETED:
                indexed.add(name)
        cursor = page.next_cursor
        if cursor is None or wanted <= found.keys():
            return found, indexed
        await asyncio.sleep(0)


def _name(job: JobView) -> str:
    """Return the object's name out of `gs://bucket/name`."""
    return (job.file_path or "").removeprefix("gs://").partition("/")[2]
