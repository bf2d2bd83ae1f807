"""When a job has ended, nothing of it goes on: tasks, threads, children, files and handles, after every outcome."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest

from services.api.app import build as build_api
from services.api.settings import ApiSettings
from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from tests.plugins.model_server import ModelServer, api_key_invalid, good, hang, server_error
from tests.plugins.stack import Site, eventually

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

EACH = 5
POOLS = ("asyncio", "storage", "ThreadPoolExecutor")
"""Threads that are kept for the next piece of work, up to a bound."""


@dataclass(frozen=True)
class Belongings:
    """What a process holds, as far as a job could leave it behind. Pools of sockets and threads grow to their bound."""

    tasks: int
    threads: tuple[str, ...]
    children: int
    files: tuple[str, ...]
    handles: tuple[tuple[str, int], ...]

    @classmethod
    def now(cls, temp_dir: Path) -> Belongings:
        """Look at this process."""
        names = (re.sub(r"[-_]?\d+", "", thread.name) for thread in threading.enumerate())
        handles = Counter(_kind(entry) for entry in Path("/proc/self/fd").iterdir())
        return cls(
            tasks=sum("delivery" in task.get_name() for task in asyncio.all_tasks()),
            threads=tuple(sorted(name for name in names if not name.startswith(POOLS))),
            children=len(psutil.Process().children()),
            files=tuple(sorted(str(path.relative_to(temp_dir)) for path in temp_dir.rglob("*"))),
            handles=tuple(sorted((kind, count) for kind, count in handles.items() if kind != "socket")),
        )


def _kind(handle: Path) -> str:
    try:
        target = str(handle.readlink())
    except FileNotFoundError:  # the handle of this very look
        return "socket"
    return target.partition(":")[0]


@pytest.mark.slow
async def test_nothing_is_left_when_jobs_have_ended(site: Site, model: ModelServer) -> None:
    """Thirty jobs: completed, failed, retried, cancelled, superseded and rate-limited; then all is as it was before."""
    temp_dir = site.folder / "work"
    temp_dir.mkdir()
    said = {"PROCESS_CONCURRENCY": 6, "LEASE_SECONDS": 5, "HEARTBEAT_SECONDS": 1, "TEMP_DIR": temp_dir}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(site.service(build_ingest, IngestSettings))
        await stack.enter_async_context(site.service(build_process, ProcessSettings, **said, **model.environment()))
        address = await stack.enter_async_context(site.service(build_api, ApiSettings, **model.environment()))
        api = await stack.enter_async_context(aiohttp.ClientSession(address))
        await upload(site, "warm")  # what is opened at first use is open now
        await site.ended(*names("warm"))
        before = await settled(temp_dir)

        await upload(site, "completed")
        await site.ended(*names("completed"))
        model.answer = api_key_invalid
        await upload(site, "failed")
        await site.ended(*names("failed"))
        model.answer = server_error
        await upload(site, "retried")
        await waiting(site, "retried", "DEPENDENCY_UNAVAILABLE")
        model.answer = hang
        await upload(site, "cancelled")
        await at_the_model(model, "cancelled")
        for name in names("cancelled"):
            job = await site.job(name)
            assert job is not None
            async with api.delete(f"/api/v1/admin/jobs/{job['id']}") as response:
                assert response.status == 200, await response.text()
        await upload(site, "superseded")
        await at_the_model(model, "superseded")
        model.answer = good
        await upload(site, "superseded", version=2)
        await site.ended(*names("superseded"))
        model.allowance_per_second = 1 / 600
        model.use_up()
        await upload(site, "limited")
        await waiting(site, "limited", "RATE_LIMITED")

        ends = Counter((row["word"], row["status"]) for row in await site.rows(_ENDS))
        after = await settled(temp_dir, wanted=before)
    assert ends == {
        ("warm", "completed"): EACH,
        ("completed", "completed"): EACH,
        ("failed", "failed"): EACH,
        ("retried", "pending"): EACH,
        ("cancelled", "cancelled"): EACH,
        ("superseded", "cancelled"): EACH,
        ("superseded", "completed"): EACH,
        ("limited", "pending"): EACH,
    }
    assert Counter(after.threads) - Counter(before.threads) == {}
    assert after == before


_ENDS = "select split_part(name, '-', 1) as word, status from document_processing_jobs"


def names(word: str) -> list[str]:
    """Name the files that are to end in one way."""
    return [f"{word}-{number}.txt" for number in range(EACH)]


def text_of(name: str, version: int = 1) -> str:
    """Write a text of a file's own."""
    return f"The gate of {name} closes in {version} seconds."


async def upload(site: Site, word: str, version: int = 1) -> None:
    """Put them into the bucket."""
    for name in names(word):
        await site.upload(name, text_of(name, version).encode())


async def waiting(site: Site, word: str, code: str) -> None:
    """Wait until all of them wait for another attempt, for this reason."""

    async def look() -> bool:
        jobs = [await site.job(name) for name in names(word)]
        return all(job is not None and (job["status"], job["error_code"]) == ("pending", code) for job in jobs)

    await eventually(look)


async def at_the_model(model: ModelServer, word: str) -> None:
    """Wait until the texts of all of them have been sent, and not been answered."""

    async def look() -> bool:
        sent = {text for call in model.calls if call.status == 0 for text in call.texts}
        return all(text_of(name) in sent for name in names(word))

    await eventually(look)


async def settled(temp_dir: Path, wanted: Belongings | None = None) -> Belongings:
    """Look until no delivery is handled, and, with a wish, until it is fulfilled or the time is over."""
    found = Belongings.now(temp_dir)

    async def look() -> bool:
        nonlocal found
        found = Belongings.now(temp_dir)
        return found.tasks == 0 and wanted in {None, found}

    try:
        await eventually(look, within_seconds=20)
    except AssertionError:
        if wanted is None:
            raise
    return found
