"""Random sequences of uploads, messages, crashes and time: the index always ends equal to the bucket."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import structlog

from shared.clock import SystemClock
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from tests.fakes import HashEmbedder
from tests.plugins import verdict
from tests.plugins.permutations import BATCH, run_sequences
from tests.plugins.road import Road
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
        await verdict.open_clock(road)
        yield road


@pytest.fixture
def sequences(database_url: str) -> Iterator[Any]:
    """Give a function that runs sequences on one road, driven from outside of its loop."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner, structlog.testing.capture_logs() as logs:

        def run(work: Coroutine[Any, Any, Any]) -> Any:
            logs.clear()
            return runner.run(work)

        stack = AsyncExitStack()
        road = run(stack.enter_async_context(open_road(database_url)))
        try:
            yield lambda count, *, first_seed: run_sequences(road, run, count, first_seed=first_seed)
        finally:
            run(stack.aclose())


def test_the_index_ends_equal_to_the_bucket(sequences: Any) -> None:
    """Forty sequences, the same each time: in step, paid for once, never mixed, every ledger legal, nothing left."""
    assert sequences(40, first_seed=1) == 40


# Two classes, so that two workers take them.


@pytest.mark.slow
class TestFirstThousand:
    """Half of the second tier."""

    def test_the_index_ends_equal_to_the_bucket(self, sequences: Any) -> None:
        """A thousand sequences."""
        assert sequences(1000, first_seed=1000) == 1000


@pytest.mark.slow
class TestSecondThousand:
    """The other half."""

    def test_the_index_ends_equal_to_the_bucket(self, sequences: Any) -> None:
        """A thousand other ones."""
        assert sequences(1000, first_seed=2000) == 1000


@pytest.mark.soak
def test_the_index_ends_equal_to_the_bucket_in_recorded_runs(sequences: Any) -> None:
    """As many sequences as `benchmarks/permutations.py` asks for, in rounds, as long as it allows."""
    asked, done = int(os.environ.get("HEADRACE_SEQUENCES", "1000")), 0
    minutes, clock = float(os.environ.get("HEADRACE_SEQUENCES_MINUTES", "0")), SystemClock()
    started, first = clock.monotonic(), os.getpid() * 1_000_000
    while done < asked and (not minutes or clock.monotonic() - started < minutes * 60):
        done += sequences(min(ROUND, asked - done), first_seed=first + done)
        sys.stdout.write(f"sequences so far: {done}\n")
    sys.stdout.write(f"sequences passed: {done}\n")
