"""Real servers and real processes under random uploads, overwrites, deletions, metadata changes and repeated events.

Many sequences run at the same time and have kills and lost messages in common (`tests/plugins/town.py`). After the last
step time passes, recover runs until nothing is left to do, and the index equals the bucket.
"""

from __future__ import annotations

import os
import sys

import pytest

from shared.clock import SystemClock
from tests.plugins.model_server import ModelServer
from tests.plugins.stack import Site
from tests.plugins.town import Street, town

# The SDK's own class, which we cannot change.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

AT_ONCE = 25
"""Sequences on one stack at the same time."""


async def test_the_index_ends_equal_to_the_bucket(site: Site, model: ModelServer) -> None:
    """One sequence, with a kill of each kind; `recover --once` brings everything home."""
    async with town(site, model, seed=1) as built:
        street = Street("one/0/", built.chance)
        for act in (built.write, built.write, built.describe, built.repeat):
            await act(street)
        await built.make("kill services.process")
        await built.write(street)
        await built.make("kill the broker")
        await built.write(street)
        await built.settle(as_a_process=True)
        await built.judge("one/", [street], kills=1)


@pytest.mark.slow
async def test_the_index_ends_equal_to_the_bucket_in_fifty_sequences(site: Site, model: ModelServer) -> None:
    """Fifty sequences, the same each time as far as processes are."""
    async with town(site, model, seed=2) as built:
        await built.sequences("first/", AT_ONCE)
        await built.sequences("second/", 50 - AT_ONCE)
        assert built.troubles["kill services.process"] >= 2


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_the_index_ends_equal_to_the_bucket_in_recorded_runs(site: Site, model: ModelServer) -> None:
    """As many sequences as `benchmarks/permutations.py --full` asks for, as long as it allows."""
    asked, passed = int(os.environ.get("HEADRACE_SEQUENCES", "50")), 0
    minutes, clock = float(os.environ.get("HEADRACE_SEQUENCES_MINUTES", "0")), SystemClock()
    started = clock.monotonic()
    try:
        async with town(site, model, seed=os.getpid()) as built:
            while passed < asked and (not minutes or clock.monotonic() - started < minutes * 60):
                count = min(AT_ONCE, asked - passed)
                await built.sequences(f"{passed}/", count)
                passed += count
            for trouble, times in built.troubles.items():
                sys.stdout.write(f"| {trouble} | {times} |\n")
    finally:
        sys.stdout.write(f"sequences passed: {passed}\n")
