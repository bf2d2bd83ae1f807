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
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAST = "tests/component/test_permutations.py::test_the_index_ends_equal_to_the_bucket_in_recorded_runs"
FULL = "tests/acceptance/test_permutations.py::test_the_index_ends_equal_to_the_bucket_in_recorded_runs"


def main() -> None:
    """Run what is asked for and print it."""
    parser = argparse.ArgumentParser(description="Random sequences, until one fails or all have passed.")
    parser.add_argument("--sequences", type=int, default=1000, help="on handlers and Postgres (default: 1000)")
    parser.add_argument("--full", type=int, default=0, help="instead, so many on real servers and processes")
    parser.add_argument("--processes", type=int, default=2, help="at the same time, each on a database of its own")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing new after so long; 0: no bound")
    parser.add_argument("--out", type=Path, help="also add the result to this file")
    asked = parser.parse_args()
    count, test = (asked.full, FULL) if asked.full else (asked.sequences, FAST)
    share = -(-count // asked.processes)
    started = time.monotonic()
    runs = [start(test, share, asked.minutes) for _ in range(asked.processes)]
    outputs = [run.communicate()[0] for run in runs]
    seconds = time.monotonic() - started
    done = sum(int(number) for output in outputs for number in re.findall(r"sequences passed: (\d+)", output))
    failed = any(run.returncode for run in runs)
    line = (
        f"| {datetime.now(UTC):%Y-%m-%d} | {commit()} | {'full stack' if asked.full else 'handlers, Postgres'} "
        f"| {count} | {done} | {'no' if not failed else 'yes'} | {seconds:.0f} |"
    )
    print(
        "| date | commit | level | asked for | passed | a failure | seconds |\n|---|---|---|--:|--:|---|--:|\n" + line
    )
    if failed:
        print("\n".join(output for run, output in zip(runs, outputs, strict=True) if run.returncode))
    if asked.out:
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    sys.exit(failed)


def start(test: str, count: int, minutes: float) -> subprocess.Popen[str]:
    """Start one process of the run."""
    said = {"HEADRACE_SEQUENCES": str(count), "HEADRACE_SEQUENCES_MINUTES": str(minutes)}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", test, "-m", "soak", "-q", "-s", "--tb=short", "--show-capture=no"],
        cwd=ROOT,
        env=os.environ | said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def commit() -> str:
    """Return the product's commit."""
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
