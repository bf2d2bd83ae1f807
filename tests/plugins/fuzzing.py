"""Damaged copies of every kind of file, read with the real extractor, and what it holds before and after."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from services.process.extract.extractor import ChildExtractor
from shared.clock import SystemClock
from shared.errors import HeadraceError
from tests.plugins.hostile import mutations, seeds
from tests.plugins.stack import eventually

VERDICTS = frozenset({"CORRUPT", "EMPTY", "ENCRYPTED", "NO_TEXT", "TOO_COMPLEX", "UNSUPPORTED_TYPE"})


@dataclass(frozen=True, slots=True)
class End:
    """What one file came to: `read`, or a code."""

    ending: str
    damage: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rest:
    """What this process holds when nothing is being read."""

    processes: int
    descriptors: int
    resident_mb: float


@dataclass(slots=True)
class Run:
    """What a run came to; `faults` says in sentences what should not have happened."""

    ends: list[End]
    before: Rest
    after: Rest
    peak_child_mb: float = 0.0
    faults: list[str] = field(default_factory=list)


async def fuzz(
    *,
    seed: int,
    truncations: int,
    flips: int,
    at_once: int = 4,
    only: Sequence[str] | None = None,
    limit_seconds: int = 60,
) -> Run:
    """Read damaged copies of every kind of file with the real extractor, some at the same time."""
    ends: list[End] = []
    clock = SystemClock()
    slots, numbers = asyncio.Semaphore(at_once), count()
    others = reading(psutil.Process())
    with TemporaryDirectory(prefix="headrace-fuzz-") as name:
        folder, work_dir = Path(name) / "files", Path(name) / "work"
        folder.mkdir()
        work_dir.mkdir()
        async with ChildExtractor(work_dir=work_dir, deadline_seconds=limit_seconds) as extractor:

            async def one(file: str, damage: str, data: bytes) -> None:
                async with slots:
                    path = folder / f"{next(numbers)}-{file}"
                    path.write_bytes(data)
                    began = clock.monotonic()
                    outcome = await outcome_of(extractor, path, file)
                    ends.append(End(file.rpartition(".")[2], damage, outcome, clock.monotonic() - began))
                    path.unlink()

            for file, data in seeds().values():  # so that what is loaded once is loaded
                await one(file, "whole", data)
            before = await at_rest(others)
            for number, (file, data) in enumerate(seeds().values()):
                if only and file.rpartition(".")[2] not in only:
                    continue
                damaged = mutations(data, seed=seed * 1000 + number, truncations=truncations, flips=flips)
                async with asyncio.TaskGroup() as group:
                    for damage, bad in damaged:
                        group.create_task(one(file, damage, bad))
            after = await at_rest(others)
            left = [path.name for path in (*folder.iterdir(), *work_dir.iterdir())]
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    run = Run(ends, before, after, peak_mb)
    run.faults += [
        f"{end.ending} {end.damage} came to {end.outcome}"
        for end in ends
        if end.outcome not in (VERDICTS | {"read"} if end.damage != "whole" else {"read"})
    ]
    run.faults += [f"{name} was left behind" for name in left]
    if after.processes != before.processes or after.descriptors > before.descriptors:
        run.faults.append(f"{before} became {after}")
    if after.resident_mb > before.resident_mb * 1.1 + 8:
        run.faults.append(f"{before.resident_mb:.0f} MB grew to {after.resident_mb:.0f}")
    return run


async def outcome_of(extractor: ChildExtractor, path: Path, name: str) -> str:
    """Return `read`, or the code with which the file is refused."""
    try:
        media_type = extractor.sniff(path, name=name)
        async with aclosing(extractor.extract(path, media_type=media_type)) as segments:
            async for _ in segments:
                pass
    except HeadraceError as error:
        return error.code if error.code in VERDICTS else f"{error.code}: {error.message}"
    return "read"


def reading(me: psutil.Process) -> int:
    """Count the extractor's processes below this one; the embedded Postgres has some that come and go."""
    found = 0
    for child in me.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found += "services.process.extract.server" in child.cmdline()
    return found


async def at_rest(others: int = 0) -> Rest:
    """Return what this process holds, once only the warm process is left of the extractor, beside so many `others`."""
    me = psutil.Process()

    async def look() -> bool:
        return reading(me) == others + 1

    await eventually(look)
    return Rest(1, me.num_fds(), me.memory_info().rss / 1e6)
