"""What both sides of the comparison share: the files, the bucket, and how time and processor time are taken.

A side is a process of its own. It writes lines of JSON to standard output: `{"done": …, "total": …}` on the way, and
its result at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil

from shared.model.document import ObjectMetadata, ObjectRef
from shared.storage.gcs import CloudStorage
from shared.telemetry.logs import configure_logs

CORPUS = Path(__file__).resolve().parents[1] / "cli" / "corpus"
NOT_DOCUMENTS = {"README.md", "questions.json"}
AT_ONCE = 4
"""Files uploaded at once, on both sides, and files worked on at once: the product's own default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One file to be put into the bucket. Each copy of the corpus belongs to an organization of its own: vectors are
    reused within one, and here every text is to be embedded on both sides.
    """

    path: Path
    name: str
    organization: str


@dataclass(kw_only=True, slots=True)
class Result:
    """What a side did, and what it took."""

    files: int
    chunks: int
    texts: int
    """How many texts were sent to the model."""
    tokens: int
    calls: int
    seconds: float
    """From the first upload to the last commit."""
    cpu_seconds: dict[str, float]
    """Processor time in that period: this process, its extraction children, and each server."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    """Median time of a file in each stage; the product only."""
    transactions: int = 0
    """As the database counts them; it is told of some a second late."""


def sources(copies: int) -> list[Source]:
    """Return the files of the corpus, `copies` times."""
    files = [path for path in sorted(CORPUS.iterdir()) if path.is_file() and path.name not in NOT_DOCUMENTS]
    return [
        Source(path=path, name=f"copy-{copy:03}/{path.name}", organization=f"organization-{copy:03}")
        for copy in range(copies)
        for path in files
    ]


async def upload(store: CloudStorage, bucket: str, source: Source) -> ObjectMetadata:
    """Put one file into the bucket."""
    return await store.upload(
        ObjectRef(bucket, source.name),
        source.path,
        content_type=None,
        metadata={"organization-id": source.organization},
    )


def cpu_seconds() -> dict[str, float]:
    """Return the processor time used so far by this process and everything it started, by kind.

    Children that have ended are in the account of the parent that waited for them; here these are extractions.
    """
    me = psutil.Process()
    own = me.cpu_times()
    spent: defaultdict[str, float] = defaultdict(float)
    spent |= {"python": own.user + own.system, "extraction": own.children_user + own.children_system}
    for child in me.children():
        try:
            kind = _kind(child)
            for process in (child, *child.children(recursive=True)):
                times = process.cpu_times()
                spent[kind] += times.user + times.system + times.children_user + times.children_system
        except psutil.NoSuchProcess:
            continue  # it has just ended; its time is in its parent's account, now or at the end
    return spent


def cpu_since(start: dict[str, float]) -> dict[str, float]:
    """Return the processor time since `start`, by kind."""
    now = cpu_seconds()
    return {kind: now[kind] - start.get(kind, 0.0) for kind in sorted(now)}


def say(**fields: object) -> None:
    """Tell the process that started this one."""
    print(json.dumps(fields), flush=True)


def main(work: Callable[[Path, int], Awaitable[Result]]) -> None:
    """Be the process of one side: run it on a fresh data directory, and tell its result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--copies", type=int, required=True)
    copies = parser.parse_args().copies
    with TemporaryDirectory(prefix="headrace-benchmark-") as folder:
        # Run by root, the database runs as another user and has to pass through.
        Path(folder).chmod(0o711)
        data_dir = Path(folder, "data")
        data_dir.mkdir(mode=0o711)
        # Logs as `./headrace up` writes them; to nobody's terminal, whose speed is not measured here.
        with (data_dir / "headrace.log").open("w", encoding="utf-8") as log, redirect_stderr(log):
            configure_logs("INFO", "json")
            result = asyncio.run(_awaited(work(data_dir, copies)))
        say(result=asdict(result))


async def transactions(dsn: str) -> int:
    """Return how many transactions the database has counted so far."""
    connection = await asyncpg.connect(dsn)
    try:
        count: int = await connection.fetchval(
            "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
        )
        return count
    finally:
        await connection.close()


async def _awaited(work: Awaitable[Result]) -> Result:
    return await work


def _kind(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    kinds = {"services.process.extract": "extraction", "shared.local.pubsub": "broker", "fake-gcs": "storage"}
    return next((kind for mark, kind in kinds.items() if mark in words), "postgres" if "postgres" in words else "other")
