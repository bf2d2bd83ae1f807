"""How well search finds the passage that answers: vectors alone, words alone, and ways to join them.

    ./headrace dev python benchmarks/retrieval.py --out benchmarks/results/retrieval.md

The product indexes the corpus (`retrieval_corpus.py`) with its local model; then every question is asked. All scores
come from its database; `product` is its own search, by which the others are checked. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import re
import subprocess
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from benchmarks.retrieval_corpus import Question, questions
from benchmarks.retrieval_measure import PRODUCT, Outcome, measure
from benchmarks.retrieval_rank import difference, quality
from services.process.chunking import TARGET_TOKENS
from shared.clock import SystemClock
from shared.telemetry.logs import configure_logs

KINDS = ("natural", "keyword", "exact", "typo")


def choosing(asked: list[Question]) -> NDArray[np.bool_]:
    """Say which questions may be looked at to choose: every second one of each kind. The others judge."""
    seen: Counter[str] = Counter()
    chosen = []
    for question in asked:
        chosen.append(seen[question.kind] % 2 == 0)
        seen[question.kind] += 1
    return np.array(chosen)


def report(outcomes: list[Outcome], asked: list[Question]) -> str:
    """Return everything as Markdown."""
    main = next(outcome for outcome in outcomes if outcome.target_tokens == TARGET_TOKENS)
    half, kinds = choosing(asked), np.array([question.kind for question in asked])
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    kinds_said = ", ".join(f"{count} {kind}" for kind, count in Counter(kinds.tolist()).items())
    made = f"{SystemClock().now():%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, {platform.machine()}"
    heads = ["order", "choosing: R@1", "R@5", "R@10", "MRR", "judging: R@1", "R@5", "R@10", "MRR"]
    heads += ["all: R@1", "R@5", "R@10", "MRR", *(f"MRR {kind}" for kind in KINDS)]
    lines = [
        "# Retrieval quality of the local model",
        "",
        f"{made}, Python {platform.python_version()}.",
        "",
        f"{len(asked)} questions ({kinds_said}), {main.chunks} chunks of at most {main.target_tokens} tokens.",
        f"{main.cut_quotes} quotes lie in no chunk as a whole.",
        "",
        "R@n: share of questions with a right passage among the first n; MRR: mean of 1/place.",
        f"Every second question of each kind was there to choose by ({int(half.sum())}), the others judge",
        f"({int((~half).sum())}).",
        "",
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
    ]
    lines += [_row(name, places, half, kinds) for name, places in main.places.items()]
    lines += [
        "",
        "## Is it more than noise?",
        "",
        "Difference in MRR to the product's search, paired; 95 % interval of a bootstrap over the questions.",
        "",
    ]
    lines += ["| the product's search against | judging half | all questions |", "|---|---|---|"]
    for name, places in main.places.items():
        if name != PRODUCT:
            lines.append(f"| {name} | {_gain(main, places, ~half)} | {_gain(main, places, half | ~half)} |")
    if len(outcomes) > 1:
        lines += ["", "## Size of chunks", "", "The product's search with other sizes, all questions.", ""]
        lines += [
            "| at most tokens | chunks | R@1 | R@5 | R@10 | MRR | default against it |",
            "|---|---|---|---|---|---|---|",
        ]
        for outcome in sorted(outcomes, key=lambda one: one.target_tokens):
            found = outcome.places[PRODUCT]
            against = "" if outcome is main else _gain(main, found, half | ~half)
            lines.append(f"| {outcome.target_tokens} | {outcome.chunks} | {_cells(found)} | {against} |")
    return "\n".join(lines) + "\n"


def _row(name: str, places: NDArray[np.int64], half: NDArray[np.bool_], kinds: NDArray[np.str_]) -> str:
    by_kind = " | ".join(f"{quality(places[kinds == kind]).mrr:.3f}" for kind in KINDS)
    return f"| {name} | {_cells(places[half])} | {_cells(places[~half])} | {_cells(places)} | {by_kind} |"


def _cells(places: NDArray[np.int64]) -> str:
    found = quality(places)
    return f"{found.recall_1:.3f} | {found.recall_5:.3f} | {found.recall_10:.3f} | {found.mrr:.3f}"


def _gain(main: Outcome, places: NDArray[np.int64], chosen: NDArray[np.bool_]) -> str:
    gain, low, high = difference(main.places[PRODUCT][chosen], places[chosen])
    return f"{gain:+.3f} ({low:+.3f} to {high:+.3f})"


async def _all(folder: Path, sizes: list[int], asked: list[Question]) -> list[Outcome]:
    outcomes = []
    for size in sizes:
        data_dir = folder / f"tokens-{size}"
        # Run by root, the database runs as another user and has to pass through.
        data_dir.mkdir(mode=0o711, exist_ok=True)
        outcomes.append(await measure(data_dir, asked, size))
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=re.sub(r"\s+", " ", __doc__ or ""))
    parser.add_argument("--out", type=Path, help="write the report there too")
    parser.add_argument("--data", type=Path, help="keep the index there, and use it again")
    parser.add_argument("--sizes", type=int, nargs="+", default=[TARGET_TOKENS], help="most tokens of a chunk")
    options = parser.parse_args()
    asked = questions()
    with TemporaryDirectory(prefix="headrace-benchmark-") as temporary:
        folder: Path = options.data or Path(temporary)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
        with (folder / "headrace.log").open("a", encoding="utf-8") as log, redirect_stderr(log):
            configure_logs("INFO", "json")
            outcomes = asyncio.run(_all(folder, sorted({TARGET_TOKENS, *options.sizes}), asked))
    text = report(outcomes, asked)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
