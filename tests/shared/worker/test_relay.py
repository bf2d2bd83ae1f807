"""The loop that tells the broker what was committed: it outlives every round."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.ports.outbox import Publish, Sent
from shared.telemetry.tracing import Tracing
from shared.worker.relay import Relay
from tests.fakes import RecordingPublisher


class HurriedClock(SystemClock):
    """Does not wait between rounds."""

    async def sleep(self, seconds: float) -> None:
        """Give others a turn."""
        await asyncio.sleep(0)


class FailingOutbox:
    """Fails its first rounds, then says that it was asked."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), asyncio.Event()

    async def ring_due(self, *, limit: int) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 0

    async def send(
        self,
        publish: Publish,
        *,
        limit: int,
        job_id: UUID | None = None,
        older_than_seconds: float = 0,
        without: frozenset[str] = frozenset(),
    ) -> Sent:
        self.asked.set()
        return Sent()


@pytest.mark.parametrize(
    "error", [DependencyUnavailable(), RuntimeError("a bug of a driver")], ids=["known", "unknown"]
)
async def test_a_round_that_fails_is_not_the_last(error: Exception) -> None:
    """Whatever a round meets, the next one is made: a loop that ended would take its whole service with it."""
    outbox = FailingOutbox(error, error)
    async with Tracing("test") as tracing:
        relay = Relay(outbox, RecordingPublisher(), tracing=tracing, clock=HurriedClock())
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(relay.run())
            await outbox.asked.wait()
            await relay.stop()
    assert outbox.errors == []
