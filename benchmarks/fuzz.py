"""What damaged files come to: every kind of file, cut off at 50 random points and with each of 200 bytes changed.

    ./headrace dev python benchmarks/fuzz.py [--seed 1] [--at-once 4] [--out benchmarks/results/fuzz.md]

The real extractor reads every copy. The exit code judges: 0 only if each ended as text or as a verdict on the file,
within the limits, and the extractor's processes, files and memory came back to where they were.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

from road import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.plugins import fuzzing, hostile


async def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description="Damaged copies of each kind of file, through the real extractor.")
    parser.add_argument("--seed", type=int, default=1, help="of the damage (default: 1)")
    parser.add_argument("--at-once", type=int, default=4, help="files at once (default: 4)")
    parser.add_argument("--truncations", type=int, default=hostile.TRUNCATIONS, help="of each kind (default: 50)")
    parser.add_argument("--flips", type=int, default=hostile.FLIPS, help="of each kind (default: 200)")
    parser.add_argument("--only", nargs="*", help="only kinds with one of these endings")
    parser.add_argument("--out", type=Path, help="also write the report here")
    asked = parser.parse_args()
    began = time.perf_counter()
    run = await fuzzing.fuzz(
        seed=asked.seed, at_once=asked.at_once, truncations=asked.truncations, flips=asked.flips, only=asked.only
    )
    seconds = time.perf_counter() - began
    text = report(run, f"benchmarks/fuzz.py --seed {asked.seed}", seconds)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    if run.faults:
        sys.exit(1)


def report(run: fuzzing.Run, command: str, seconds: float) -> str:
    """Return the table, and what is wrong."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    slowest: defaultdict[str, float] = defaultdict(float)
    for end in run.ends:
        kinds[end.ending][end.outcome] += 1
        slowest[end.ending] = max(slowest[end.ending], end.seconds)
    outcomes = sorted({end.outcome for end in run.ends}, key=lambda outcome: (outcome.isupper(), outcome))
    before, after = run.before, run.after
    rest = (
        f"{len(run.ends):,} files in {seconds:.0f} s. Before and after: resident memory of this process "
        f"{before.resident_mb:.0f} and {after.resident_mb:.0f} MB, processes {before.processes} and {after.processes}, "
        f"open files {before.descriptors} and {after.descriptors}. Most of one child: {run.peak_child_mb:.0f} MB.\n"
    )
    lines = [
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}. {machine()}\n",
        rest,
        "| kind | " + " | ".join(outcomes) + " | slowest, s |",
        "|---|" + "--:|" * (len(outcomes) + 1),
    ]
    lines += [
        f"| {kind} | "
        + " | ".join(str(kinds[kind][outcome] or "") for outcome in outcomes)
        + f" | {slowest[kind]:.1f} |"
        for kind in kinds
    ]
    lines += ["", "Nothing else happened." if not run.faults else "**Wrong:**", *(f"- {fault}" for fault in run.faults)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asyncio.run(main())
