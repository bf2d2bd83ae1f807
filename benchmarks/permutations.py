"""Random sequences of uploads, messages, crashes and time on the road, as many as are asked for.

    ./headrace dev python benchmarks/permutations.py --sequences 100000 --out benchmarks/results/permutations.md
    ./headrace dev python benchmarks/permutations.py --full 2000

The first runs handlers on Postgres with a simulated bucket and broker; `--full` runs real servers and processes. Both
are the tests `tests/component/test_permutations.py` and `tests/acceptance/test_permutations.py` with more sequences.
The first failure ends the run with the shortest sequence that shows it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAST = "tests/component/test_permutations.py::test_the_index_ends_equal_to_the_bucket_in_recorded_runs"
FULL = "tests/acceptance/test_permutations.py::test_the_index_ends_equal_to_the_bucket_in_recorded_runs"

FAST_ROUND, FULL_ROUND = 2_500, 200
"""Sequences after which a process begins anew, with a database and a bucket that hold nothing of those before."""


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description="Random sequences, until one fails or all have passed.")
    parser.add_argument("--sequences", type=int, default=1000, help="on handlers and Postgres (default: 1000)")
    parser.add_argument("--full", type=int, default=0, help="instead, so many on real servers and processes")
    parser.add_argument("--processes", type=int, default=2, help="at the same time, each on a database of its own")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing new after so long; 0: no bound")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="uvloop has to be installed")
    parser.add_argument("--out", type=Path, help="also add the result to this file")
    asked = parser.parse_args()
    count, test, a_round = (asked.full, FULL, FULL_ROUND) if asked.full else (asked.sequences, FAST, FAST_ROUND)
    began, at, done = datetime.now(UTC), commit(), 0
    started, seen = time.monotonic(), Counter[str]()
    failures: list[str] = []
    while done < count and not failures:
        left = asked.minutes - (time.monotonic() - started) / 60 if asked.minutes else 0
        if left < 0:
            break
        share = min(a_round, -(-(count - done) // asked.processes))
        runs = [start(test, share, left, asked.loop) for _ in range(asked.processes)]
        if not asked.full:
            give_a_core_each(runs)
        for run in runs:
            output = run.communicate()[0]
            done += max((int(number) for number in re.findall(r"sequences passed: (\d+)", output)), default=0)
            seen.update(
                {what: int(times) for what, times in re.findall(r"^\| ([^|]+) \| (\d+) \|$", output, re.MULTILINE)}
            )
            failures += [output] if run.returncode else []
        print(f"{datetime.now(UTC):%H:%M:%S} {done} of {count} passed, failures: {len(failures)}", flush=True)
    line = (
        f"| {began:%Y-%m-%d} | {at} | {'full stack' if asked.full else 'handlers, Postgres'} "
        f"| {count} | {done} | {'yes' if failures else 'no'} | {time.monotonic() - started:.0f} |"
    )
    print("\n".join(f"{times:>9} {what}" for what, times in sorted(seen.items())))
    print(
        "| date | commit | level | asked for | passed | a failure | seconds |\n|---|---|---|--:|--:|---|--:|\n" + line
    )
    print("\n".join(failures))
    if asked.out:
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    sys.exit(bool(failures))


def start(test: str, count: int, minutes: float, loop: str) -> subprocess.Popen[str]:
    """Start one process of the run."""
    said = {
        "HEADRACE_SEQUENCES": str(count),
        "HEADRACE_SEQUENCES_MINUTES": str(minutes),
        "HEADRACE_SEQUENCES_LOOP": loop,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", test, "-m", "soak", "-q", "-s", "--tb=short", "--show-capture=no"],
        cwd=ROOT,
        env=os.environ | said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def give_a_core_each(runs: list[subprocess.Popen[str]]) -> None:
    """Keep each process and its database, which it starts later, on one core.

    They only ever wait for each other: to wake an idle core for each statement costs a fifth to a quarter of the time
    (virtual machine, 2 cores).
    """
    cores = sorted(os.sched_getaffinity(0))
    for number, run in enumerate(runs):
        os.sched_setaffinity(run.pid, {cores[number % len(cores)]})


def commit() -> str:
    """Return the product's commit."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
