"""Hostile objects on the whole road: each job ends, too large ones unread, and the service is as slim as before."""

from __future__ import annotations

import asyncio
import contextlib

import psutil
import pytest

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from shared.errors import HeadraceError
from tests.plugins import bombs, hostile
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import ROOT, Site, eventually

CODES = {"CORRUPT", "EMPTY", "ENCRYPTED", "NO_TEXT", "TOO_COMPLEX", "TOO_LARGE", "UNSUPPORTED_TYPE"}
MEGABYTE = 1024 * 1024
BOMBS = (
    *("overlap", "plain-zip", "laughs-docx", "quadratic-xml", "pdf-lying-count", "pdf-endless-pages", "line-txt"),
    *("pdf-100000-empty", "pdf-huge-stream", "png-50000-hollow", "tiff-wide", "json-deep", "html-deep", "ods-repeated"),
)
NAMES = (
    "a/../b.txt",
    "folder//double.txt",
    "/leading.txt",
    "-rf",
    ".hidden",
    " spaces at both ends ",
    "line\nbreak.txt",
    "quote'\"; drop table documents; --.txt",
    "%2e%2e%2fescaped.txt",
    "%s%n{0}{x}.txt",
    "right\u202etxt.exe",
    "e\u0301 and \u00e9.txt",
    "\U0001f4c4" * 200 + ".txt",
    "n" * 1000 + ".txt",
    "CON.txt",
    "object",
    "a.pdf.txt",
    "back\\slash.txt",
    "tab\there.txt",
    "query?x=1#fragment.txt",
)


def written_bytes(site: Site) -> int:
    """Return how much the embedded storage server has written since its start: answers, and objects to its folder."""
    return int(psutil.Process(site.servers.gcs.pid).io_counters().write_chars)


async def test_an_object_over_the_limit_is_refused_before_it_is_downloaded(site: Site, model: ModelServer) -> None:
    """The size is asked for and the bytes are not; one byte less is read."""
    limit = 5 * MEGABYTE
    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.process", MAX_OBJECT_BYTES=limit, **model.environment()),
    ):
        costs: dict[str, int] = {}
        jobs = {}
        for name, size in {"large.txt": limit + 1, "small.txt": limit}.items():
            before = written_bytes(site)
            await site.upload(name, (b"word" + b" " * 1020) * (size // 1024) + b"x" * (size % 1024))
            (jobs[name],) = await site.ended(name)
            costs[name] = written_bytes(site) - before
    large, small = jobs["large.txt"], jobs["small.txt"]
    assert (large["status"], large["error_code"], large["attempts"]) == ("failed", "TOO_LARGE", 1)
    assert small["status"] == "completed", small["error_message"]
    # What an upload makes the server write is the same for both; the difference is what was downloaded.
    assert costs["small.txt"] - costs["large.txt"] > limit * 0.9, costs


async def test_odd_names_are_names(site: Site, model: ModelServer) -> None:
    """Whatever characters a name has, its object is indexed under it, unless the bucket refused it."""
    text = (ROOT / "cli" / "corpus" / "shift-log.txt").read_bytes()
    accepted: list[str] = []
    async with (
        site.service(build_ingest, IngestSettings),
        site.process("services.process", **model.environment()) as process,
    ):
        for name in NAMES:
            with contextlib.suppress(HeadraceError):  # the embedded server cannot keep every name
                await site.upload(name, text)
                accepted.append(name)
        jobs = await site.ended(*accepted, within_seconds=180)
        await rest_of(process.pid)
        left = [path for path in process.temp_dir.rglob("*") if path.is_file()]
    assert {job["name"]: (job["status"], job["error_code"]) for job in jobs} == dict.fromkeys(
        accepted, ("completed", None)
    )
    assert len(accepted) >= 12
    assert left == []


@pytest.mark.slow
async def test_hostile_files_leave_the_service_as_it_was(site: Site, model: ModelServer) -> None:
    """Bombs and damaged copies of every kind end with a code or completed; processes, files and memory come back."""
    said = model.environment() | {"EXTRACT_MEMORY_BYTES": 512 * MEGABYTE, "EXTRACT_DEADLINE_SECONDS": 120}
    async with site.service(build_ingest, IngestSettings), site.process("services.process", **said) as process:
        async with asyncio.TaskGroup() as group:
            for name, data in hostile.seeds().values():
                group.create_task(site.upload(f"whole/{name}", data))
        names = [f"whole/{name}" for name, _ in hostile.seeds().values()]
        assert {job["status"] for job in await site.ended(*names, within_seconds=240)} == {"completed"}
        before = await rest_of(process.pid)
        names = await bad_ones(site)
        jobs = await site.ended(*names, within_seconds=600)
        after = await rest_of(process.pid)
        left = [path for path in process.temp_dir.rglob("*") if path.is_file()]
    for job in jobs:
        assert job["status"] == "completed" or job["error_code"] in CODES, (job["name"], job["error_code"])
        assert job["attempts"] == 1, (job["name"], job["error_code"])
    assert left == []
    assert after[:1] == before[:1]
    assert after[1] <= before[1] + 4, f"{before[1]} open files became {after[1]}"
    assert after[2] < before[2] * 1.15 + 48 * MEGABYTE, f"{before[2]} grew to {after[2]}"


async def bad_ones(site: Site) -> list[str]:
    """Upload the bombs and two damaged copies of each kind of file; return the names."""
    files = {f"bomb/{name}/{bombs.BOMBS[name][0]}": bombs.BOMBS[name][1] for name in BOMBS}
    names = []
    for name, make in files.items():
        await site.upload(name, await asyncio.to_thread(make))
        names.append(name)
    for number, (name, data) in enumerate(hostile.seeds().values()):
        for damage, bad in hostile.mutations(data, seed=number, truncations=1, flips=1):
            names.append(f"damaged/{damage}-{name}")
            await site.upload(names[-1], bad)
    return names


async def rest_of(pid: int) -> tuple[int, int, int]:
    """Return children, open files and resident bytes once only the child that waits for work is left."""
    process = psutil.Process(pid)

    async def look() -> bool:
        return len(process.children(recursive=True)) == 1

    await eventually(look)
    return 1, process.num_fds(), process.memory_info().rss
