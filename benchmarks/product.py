"""Side A: the product as `./headrace up` runs it, asked only through the bucket and the API."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from statistics import median
from uuid import UUID

from side import AT_ONCE, Result, Source, cpu_seconds, cpu_since, main, say, sources, transactions, upload

from cli.client import Api
from services.address import Address
from services.api.schemas import JobView
from services.laptop import everything
from shared.clock import SystemClock
from shared.local.stack import running_environment
from shared.storage.gcs import CloudStorage

POLL_SECONDS = 0.5
"""For the progress line and the end; the time is taken from the jobs, to the moment of the last commit."""
STALLED_SECONDS = 120.0
PAGE = 200


async def index(data_dir: Path, copies: int) -> Result:
    """Start everything, put the files into the bucket, and wait until all of them are completed."""
    async with (
        everything(data_dir, durable=True) as stack,
        Api(stack.api) as api,
        CloudStorage(project_id=stack.project, emulator_host=stack.storage) as store,
    ):
        environment = running_environment(data_dir)
        assert environment is not None
        return await _measure(environment["DATABASE_URL"], stack, api, store, sources(copies))


async def _measure(dsn: str, stack: Address, api: Api, store: CloudStorage, files: list[Source]) -> Result:
    before, spent, started = await transactions(dsn), cpu_seconds(), SystemClock().now()
    slots = asyncio.Semaphore(AT_ONCE)

    async def put(source: Source) -> None:
        async with slots:
            await upload(store, stack.bucket, source)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_until_completed(api, len(files)))
        for source in files:
            group.create_task(put(source))
        await waiting
    used = cpu_since(spent)
    committed = await transactions(dsn) - before
    stats = await api.stats()
    jobs = await _jobs(api)
    ended = max(job.completed_at for job in jobs if job.completed_at is not None)
    return Result(
        files=stats.documents,
        chunks=stats.chunks,
        texts=sum((job.result or {})["embedded_texts"] for job in jobs),
        tokens=sum(job.tokens_used for job in jobs),
        calls=sum(job.model_calls for job in jobs),
        seconds=(ended - started).total_seconds(),
        cpu_seconds=used,
        stages_ms=await _stages(api, [job.id for job in jobs]),
        transactions=committed,
    )


async def _until_completed(api: Api, total: int) -> None:
    clock = SystemClock()
    done, since = -1, clock.monotonic()
    while done < total:
        counts = (await api.stats()).by_status
        if lost := counts.get("failed", 0) + counts.get("cancelled", 0):
            raise SystemExit(f"{lost} files were not indexed: {(await api.stats()).by_error_code}")
        if counts.get("completed", 0) != done:
            done, since = counts.get("completed", 0), clock.monotonic()
            say(done=done, total=total)
        elif clock.monotonic() - since > STALLED_SECONDS:
            raise SystemExit(f"nothing was completed for {STALLED_SECONDS:.0f} s; {done} of {total} files are done")
        await asyncio.sleep(POLL_SECONDS)


async def _jobs(api: Api) -> list[JobView]:
    page = await api.jobs(limit=PAGE)
    found = page.jobs
    while page.next_cursor:
        page = await api.jobs(cursor=page.next_cursor, limit=PAGE)
        found += page.jobs
    return found


async def _stages(api: Api, job_ids: list[UUID]) -> dict[str, float]:
    """Return each stage's median, from the ledgers."""
    times: defaultdict[str, list[int]] = defaultdict(list)
    for job_id in job_ids:
        for move in (await api.job(job_id)).ledger:
            if move.duration_ms is not None:
                times[move.stage.value].append(move.duration_ms)
    return {stage: median(values) for stage, values in times.items()}


if __name__ == "__main__":
    main(index)
