"""How fast the road is, and what queue, stages and ledger cost: the product against a straight script, in turns.

    ./headrace dev python benchmarks/road.py [--copies 50] [--rounds 3] [--embedder gemini|local|both] [--out FILE]

See README.md in this folder. Nothing here is a test, and no time is judged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from aiohttp import web

HERE = Path(__file__).resolve().parent
SIDES = {"product": "product.py", "script": "straight.py"}
STAGES = ("pending", "downloading", "processing", "embedding", "storing")
MODELS = {"gemini": "a model that costs nothing", "local": "the local model"}
DIMENSIONS = 384
SIDE_SECONDS = 3600
"""A side that takes longer than this is ended, and the run with it."""

Result = dict[str, Any]


async def main() -> None:
    """Run what is asked for and print it."""
    asked = _arguments()
    command = f"benchmarks/road.py --copies {asked.copies} --rounds {asked.rounds} --embedder {asked.embedder}"
    parts = [f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n"]
    async with free_model() as url:
        for model in MODELS if asked.embedder == "both" else [asked.embedder]:
            pairs = [await _round(model, url, asked.copies, number, asked.rounds) for number in range(asked.rounds)]
            parts.append(report(model, asked.copies, pairs))
    text = "\n".join(parts)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Files/s and chunks/s of the product and of a straight script.")
    parser.add_argument("--copies", type=int, default=3, help="how often the demo corpus is indexed (default: 3)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side runs, in turns (default: 1)")
    parser.add_argument("--embedder", choices=[*MODELS, "both"], default="both", help="which pair (default: both)")
    parser.add_argument("--out", type=Path, help="also write the report here")
    return parser.parse_args()


async def _round(model: str, url: str, copies: int, number: int, rounds: int) -> dict[str, Result]:
    """Run both sides once; who goes first changes from round to round."""
    order = list(SIDES) if number % 2 == 0 else list(reversed(SIDES))
    return {
        side: await _run(side, model, url, copies, f"{MODELS[model]}, round {number + 1} of {rounds}, {side}")
        for side in order
    }


async def _run(side: str, model: str, url: str, copies: int, label: str) -> Result:
    """Run one side in a process of its own and return its result."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        HERE / SIDES[side],
        "--copies",
        str(copies),
        env=os.environ
        | {
            "PYTHONPATH": str(HERE.parent),
            "EMBEDDER": model,
            "GEMINI_BASE_URL": url,
            "GEMINI_API_KEY": "none",
            "GEMINI_EMBEDDING_DIMENSIONS": str(DIMENSIONS),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    began = time.monotonic()
    result: Result | None = None
    tenth = -1
    try:
        async with asyncio.timeout(SIDE_SECONDS):
            async for line in process.stdout:
                said = json.loads(line)
                result = said.get("result", result)
                if "done" in said:
                    text = f"{label}: {said['done']} of {said['total']} files, {time.monotonic() - began:.0f} s"
                    tenth = show(text, said["done"] * 10 // said["total"], tenth)
            status = await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K")
    if status or result is None:
        sys.exit(f"{label}: ended with status {status}; what it wrote is above")
    return result


def show(text: str, tenth: int, shown: int) -> int:
    """Show how far it is: one line that replaces itself on a terminal, else a line for each tenth."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
    elif tenth > shown:
        sys.stderr.write(f"{text}\n")
    return tenth


@asynccontextmanager
async def free_model() -> AsyncIterator[str]:
    """Answer as the Gemini API does, with vectors made from hashes: in this process, whose time is on no side."""

    async def answer(request: web.Request) -> web.Response:
        texts = [item["content"]["parts"][0]["text"] for item in (await request.json())["requests"]]
        digests = [hashlib.shake_128(text.encode()).digest(DIMENSIONS) for text in texts]
        return web.json_response({"embeddings": [{"values": [byte - 127.5 for byte in digest]} for digest in digests]})

    application = web.Application()
    application.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def report(model: str, copies: int, pairs: Sequence[dict[str, Result]]) -> str:
    """Return the tables of one pair; figures are medians over the rounds."""
    middle = {side: _median([pair[side] for pair in pairs]) for side in SIDES}
    product, script = middle["product"], middle["script"]
    ratios = [pair["script"]["seconds"] / pair["product"]["seconds"] for pair in pairs]
    kinds = sorted(product["cpu_seconds"])
    lines = [
        f"## With {MODELS[model]}: the corpus × {copies}, median of {len(pairs)} round{'s' if len(pairs) > 1 else ''}",
        "",
        "| side | files | chunks | seconds | files/s | chunks/s | processor s | transactions |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {side} | {of['files']:.0f} | {of['chunks']:.0f} | {of['seconds']:.1f} "
            f"| {of['files'] / of['seconds']:.2f} | {of['chunks'] / of['seconds']:.1f} "
            f"| {sum(of['cpu_seconds'].values()):.1f} | {of['transactions']:.0f} |"
            for side, of in middle.items()
        ),
        "",
        _in_words(product, script, ratios),
        "",
        _same_work(pairs),
        "",
        "| processor ms per file | " + " | ".join(kinds) + " | all |",
        "|---|" + "--:|" * (len(kinds) + 1),
        *(_cpu_row(side, of, kinds) for side, of in middle.items()),
        "",
        "| a file's stages in the product, median ms | " + " | ".join(STAGES) + " |",
        "|---|" + "--:|" * len(STAGES),
        "| from its ledger | " + " | ".join(f"{product['stages_ms'].get(stage, 0):.0f}" for stage in STAGES) + " |",
        "",
    ]
    return "\n".join(lines)


def _in_words(product: Result, script: Result, ratios: Sequence[float]) -> str:
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    wall_ms = (product["seconds"] / product["files"] - script["seconds"] / script["files"]) * 1000
    cpu_ms = _cpu_ms(product) - _cpu_ms(script)
    return (
        f"**Ratio of files/s, product to script: {median(ratios):.2f}{spread}.** To each file the product adds "
        f"{wall_ms:+.0f} ms of time and {cpu_ms:+.0f} ms of processor time."
    )


def _cpu_row(side: str, of: Result, kinds: Sequence[str]) -> str:
    each = [f"{of['cpu_seconds'].get(kind, 0) / of['files'] * 1000:.0f}" for kind in kinds]
    return f"| {side} | {' | '.join(each)} | {_cpu_ms(of):.0f} |"


def _same_work(pairs: Sequence[dict[str, Result]]) -> str:
    """Say whether both sides did the same, in every round."""
    did = {
        side: {tuple(pair[side][what] for what in ("files", "chunks", "texts", "tokens")) for pair in pairs}
        for side in SIDES
    }
    if len(did["product"] | did["script"]) == 1:
        files, chunks, texts, tokens = next(iter(did["product"]))
        return (
            f"Both sides did the same work in every round: {files} files, {chunks} chunks, {texts} texts embedded, "
            f"{tokens} tokens."
        )
    return f"**THE SIDES DID NOT DO THE SAME** (files, chunks, texts embedded, tokens): {did}. The ratio means nothing."


def _median(results: Sequence[Result]) -> Result:
    """Return the median of every figure."""
    first = results[0]
    return {
        name: {key: median(result[name].get(key, 0) for result in results) for key in value}
        if isinstance(value, dict)
        else median(result[name] for result in results)
        for name, value in first.items()
    }


def _cpu_ms(result: Result) -> float:
    """Return the processor time of one file."""
    return float(sum(result["cpu_seconds"].values()) / result["files"] * 1000)


def machine() -> str:
    """Describe what this ran on, without naming it."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory_gb:.0f} GB, {platform.system()}, "
        f"Python {platform.python_version()}; load average at the start {os.getloadavg()[0]:.1f}."
    )


if __name__ == "__main__":
    asyncio.run(main())
