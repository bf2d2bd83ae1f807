"""How much memory the process service takes with all its children: one long PDF, and very many files.

    ./headrace dev python benchmarks/memory.py [--pages 2000] [--files 2000] [--only gemini local files] [--out FILE]

`python -m services.process` runs as in production, on the embedded servers; the model is the local one, or a stand-in
for Gemini that is asked through the real client. Counted is the proportional set size (PSS) of the service and all its
descendants at one moment, ten times a second. Nothing is judged here; `tests/acceptance/test_hostile_memory.py` does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from road import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from tests.plugins import memory
from tests.plugins.model_server import model_server
from tests.plugins.stack import Site, new_site_with_postgres

_MEGABYTE = 1024 * 1024


async def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description="Peak memory of the process service with its children.")
    parser.add_argument("--pages", type=int, default=2000, help="of the PDF (default: 2000)")
    parser.add_argument("--files", type=int, default=2000, help="small files of all kinds (default: 2000)")
    parser.add_argument("--only", nargs="*", default=["gemini", "local", "files"], help="which parts (default: all)")
    parser.add_argument("--out", type=Path, help="also write the report here")
    asked = parser.parse_args()
    parts = [f"`benchmarks/memory.py --pages {asked.pages} --files {asked.files}`, {datetime.now(UTC):%Y-%m-%d}."]
    parts[0] += f" {machine()}\n"
    if {"gemini", "local"} & set(asked.only):
        parts += [
            f"A PDF of {asked.pages:,} pages:\n",
            "| model | outcome | chunks | s | peak with children, MB | of it the service at its peak, MB | processes |",
            "|---|---|--:|--:|--:|--:|--:|",
        ]
        parts += [await long_pdf(asked.pages, model) for model in ("gemini", "local") if model in asked.only]
    if "files" in asked.only:
        parts.append(await many_files(asked.files))
    text = "\n".join(parts) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


async def long_pdf(pages: int, model: str) -> str:
    """Index one long PDF; return a row of the table."""
    async with AsyncExitStack() as stack:
        site, said = await _site(stack, model)
        process = await stack.enter_async_context(site.process("services.process", **said))
        began = time.perf_counter()
        async with memory.watched(process.pid) as seen:
            await site.upload("long.pdf", memory.long_report(pages))
            (job,) = await site.ended("long.pdf", within_seconds=7200)
        seconds = time.perf_counter() - began
        chunks = await site.value("select count(*) from chunks where job_id = $1", job["id"])
    return (
        f"| {model} | {job['error_code'] or job['status']} | {chunks:,} | {seconds:.0f} | "
        f"{seen.peak_bytes / _MEGABYTE:.0f} | {seen.peak_of_service_bytes / _MEGABYTE:.0f} | {seen.most_processes} |"
    )


async def many_files(count: int) -> str:
    """Index so many small files of all kinds, a hundred at a time; return what was held after each hundred."""
    rows = ["\n| files | held at rest, MB | of it the service, MB | peak so far, MB |", "|--:|--:|--:|--:|"]
    held: list[tuple[int, float]] = []
    async with AsyncExitStack() as stack:
        site, said = await _site(stack, "gemini")
        process = await stack.enter_async_context(site.process("services.process", **said))
        async with memory.watched(process.pid) as seen:
            for done in range(0, count, memory.ROUND):
                await memory.feed(site, done)
                rest = await memory.at_rest(process.pid)
                held.append((done + memory.ROUND, sum(rest) / _MEGABYTE))
                rows.append(
                    f"| {done + memory.ROUND:,} | {sum(rest) / _MEGABYTE:.0f} | {rest[0] / _MEGABYTE:.0f} | "
                    f"{seen.peak_bytes / _MEGABYTE:.0f} |"
                )
                print(rows[-1], file=sys.stderr, flush=True)
    slope = memory.slope_of(held[len(held) // 4 :])
    rows.append(f"\nAfter the first quarter, memory at rest changes by {slope * 1000:+.1f} MB in a thousand files.")
    return "\n".join(rows)


async def _site(stack: AsyncExitStack, model: str) -> tuple[Site, dict[str, object]]:
    site = await stack.enter_async_context(new_site_with_postgres())
    said: dict[str, object] = {"EMBEDDER": "local"}
    if model == "gemini":
        said = (await stack.enter_async_context(model_server())).environment()
    await stack.enter_async_context(site.service(build_ingest, IngestSettings))
    return site, said


if __name__ == "__main__":
    asyncio.run(main())
