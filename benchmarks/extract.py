"""What reading files costs: processor time and time per file of the extractor alone, over the demo corpus.

    ./headrace dev python benchmarks/extract.py [--copies 20] [--at-once 1 4] [--out FILE]

See README.md in this folder. Nothing here is a test, and no time is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import time
from collections import defaultdict
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from road import machine
from side import sources

from services.process.extract.extractor import ChildExtractor


async def main() -> None:
    """Run what is asked for and print it."""
    asked = _arguments()
    lines = [
        f"`benchmarks/extract.py --copies {asked.copies}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n",
        "| files at once | files | files/s | processor ms per file | of it in the caller | segments |",
        "|--:|--:|--:|--:|--:|---|",
    ]
    slowest: dict[str, float] = {}
    for at_once in asked.at_once:
        row, taken_ms = await measure(asked.copies, at_once)
        lines.append(row)
        slowest = slowest or taken_ms
    lines += [f"\n| file, {asked.at_once[0]} at once | median ms |", "|---|--:|"]
    lines += [f"| {name} | {taken:.0f} |" for name, taken in slowest.items()]
    text = "\n".join(lines) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


async def measure(copies: int, at_once: int) -> tuple[str, dict[str, float]]:
    """Read the corpus `copies` times; return a line of the table, and the median milliseconds of each file.

    The processor time is that of this process and of all processes of the extractor, from before it is opened until
    after it is closed.
    """
    files = [source.path for source in sources(copies)]
    slots = asyncio.Semaphore(at_once)
    taken_ms: defaultdict[str, list[float]] = defaultdict(list)
    digests: dict[str, str] = {}

    async def read(path: Path) -> None:
        async with slots:
            began = time.perf_counter()
            digest = hashlib.sha256()
            async with aclosing(extractor.extract(path, media_type=extractor.sniff(path, name=path.name))) as segments:
                async for segment in segments:
                    digest.update(json.dumps([segment.index, segment.text, segment.locator.to_json()]).encode())
            taken_ms[path.name].append((time.perf_counter() - began) * 1000)
        if digests.setdefault(path.name, digest.hexdigest()) != digest.hexdigest():
            raise RuntimeError(f"{path.name} was read in two ways")

    before = _spent_seconds(resource.RUSAGE_SELF), _spent_seconds(resource.RUSAGE_CHILDREN)
    async with ChildExtractor() as extractor:
        await read(files[0])  # what starts once is warm for the figures of time
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for path in files:
                group.create_task(read(path))
        seconds = time.perf_counter() - began
    own = (_spent_seconds(resource.RUSAGE_SELF) - before[0]) / len(files) * 1000
    others = (_spent_seconds(resource.RUSAGE_CHILDREN) - before[1]) / len(files) * 1000
    digest = hashlib.sha256("".join(digests[name] for name in sorted(digests)).encode()).hexdigest()[:12]
    row = f"| {at_once} | {len(files)} | {len(files) / seconds:.1f} | {own + others:.0f} | {own:.1f} | {digest} |"
    return row, {name: median(taken_ms[name]) for name in sorted(taken_ms)}


def _spent_seconds(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What reading the demo corpus costs, per file.")
    parser.add_argument("--copies", type=int, default=20, help="how often the corpus is read (default: 20)")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4], help="files at once (default: 1 and 4)")
    parser.add_argument("--out", type=Path, help="also write the report here")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
