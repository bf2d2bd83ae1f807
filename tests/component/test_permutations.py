"""Random sequences of uploads, messages, crashes and time: the index always ends equal to the bucket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any

import pytest
import structlog

from shared.clock import SystemClock
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from tests.fakes import HashEmbedder
from tests.plugins import verdict
from tests.plugins.machine import explore
from tests.plugins.permutations import BATCH, Run
from tests.plugins.road import Road
from tests.plugins.seeds import run_sequences
from tests.plugins.warm_pool import open_warm_database

ROUND = 500
"""Sequences between two looks at the time in a recorded run."""


@asynccontextmanager
async def open_road(url: str) -> AsyncIterator[Road]:
    """Open a road whose clock is moved by a row."""
    async with (
        open_warm_database(url, size=16) as database,
        Tracing("test", sample_ratio=0.0) as tracing,
        Metrics("test") as metrics,
    ):
        road = Road(
            database=database, url=url, tracing=tracing, metrics=metrics, embedder=HashEmbedder(batch_size=BATCH)
        )
        road.publisher.messages = verdict.Told()
        await verdict.open_clock(road)
        yield road


@pytest.fixture
def grounds(database_url: str) -> Iterator[tuple[Road, Run]]:
    """Give a road, and what runs something on it from outside of its loop."""
    new_loop = import_module(os.environ.get("HEADRACE_SEQUENCES_LOOP", "asyncio")).new_event_loop
    with asyncio.Runner(loop_factory=new_loop) as runner, structlog.testing.capture_logs() as logs:

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            logs.clear()
            return runner.run(work)

        stack = AsyncExitStack()
        road = run(stack.enter_async_context(open_road(database_url)))
        try:
            yield road, run
        finally:
            run(stack.aclose())


REACHED = (
    *("write: overwrites", "delete", "describe", "lose", "overtake", "go on", "decide by hand"),
    *("deliver: done", "deliver: duplicate", "deliver: dead", "recover: dead"),
    *("ring: done", "ring: retrying", "ring: dead", "ring: lease_lost", "ring: superseded"),
)
"""What a run has to come to, each many times as a rule."""

SURELY = ("write: overwrites", "deliver: done", "ring: done", "overtake")
"""What the few sequences that hypothesis draws in the first tier have to come to."""


def assert_deep(seen: Counter[str], reached: tuple[str, ...] = REACHED) -> None:
    """Hold a run to have got where it is dangerous; at most a tenth of its steps had nothing to act upon."""
    assert not [what for what in reached if not seen[what]], seen
    assert sum(count for what, count in seen.items() if what.endswith("nothing to act upon")) * 10 < seen.total(), seen


def test_the_index_ends_equal_to_the_bucket(grounds: tuple[Road, Run]) -> None:
    """Forty sequences, the same each time: in step, paid for once, never mixed, every ledger legal, nothing left."""
    assert_deep(run_sequences(*grounds, 40, first_seed=1))


def test_the_index_ends_equal_to_the_bucket_in_what_hypothesis_draws(grounds: tuple[Road, Run]) -> None:
    """The same of a state machine whose every step has something to act upon; what fails is shrunk."""
    assert_deep(explore(*grounds, examples=25, steps=25), SURELY)


# Classes, so that several workers take them.


@pytest.mark.slow
class TestFirstThousand:
    """Half of the second tier."""

    def test_the_index_ends_equal_to_the_bucket(self, grounds: tuple[Road, Run]) -> None:
        """A thousand sequences."""
        assert_deep(run_sequences(*grounds, 1000, first_seed=1000))


@pytest.mark.slow
class TestSecondThousand:
    """The other half."""

    def test_the_index_ends_equal_to_the_bucket(self, grounds: tuple[Road, Run]) -> None:
        """A thousand other ones."""
        assert_deep(run_sequences(*grounds, 1000, first_seed=2000))


@pytest.mark.slow
class TestStateMachine:
    """What hypothesis draws."""

    def test_the_index_ends_equal_to_the_bucket(self, grounds: tuple[Road, Run]) -> None:
        """Longer sequences than in the first tier."""
        assert_deep(explore(*grounds, examples=300, steps=40))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_the_index_ends_equal_to_the_bucket_in_recorded_runs(grounds: tuple[Road, Run]) -> None:
    """As many sequences as `benchmarks/permutations.py` asks for, in rounds, as long as it allows."""
    asked, done = int(os.environ.get("HEADRACE_SEQUENCES", "1000")), 0
    minutes, clock = float(os.environ.get("HEADRACE_SEQUENCES_MINUTES", "0")), SystemClock()
    started, first = clock.monotonic(), os.getpid() * 1_000_000
    seen: Counter[str] = Counter()
    while done < asked and (not minutes or clock.monotonic() - started < minutes * 60):
        count = min(ROUND, asked - done)
        seen += run_sequences(*grounds, count, first_seed=first + done)
        done += count
        sys.stdout.write(f"sequences passed: {done}\n")
        sys.stdout.flush()
    for what, times in sorted(seen.items()):
        sys.stdout.write(f"| {what} | {times} |\n")
