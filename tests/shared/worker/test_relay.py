"""The loop that tells the broker what was committed: it outlives every round."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.clock import SystemClock
from shared.errors import DependencyUnavailable
from shared.ports.broker import Message
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


class OneBatch(FailingOutbox):
    """An outbox with three messages; remembers what it is told of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[bool] = []

    async def send(
        self,
        publish: Publish,
        *,
        limit: int,
        job_id: UUID | None = None,
        older_than_seconds: float = 0,
        without: frozenset[str] = frozenset(),
    ) -> Sent:
        self.stored = list(await publish([Message(topic="work", data=name) for name in (b"a", b"odd", b"b")]))
        return Sent()


class OddPublisher(RecordingPublisher):
    """Meets a fault of the client library in one message."""

    async def publish(self, message: Message) -> str:
        if message.data == b"odd":
            raise TypeError("publish() got multiple values for argument 'self'")
        return await super().publish(message)


async def test_a_message_that_raises_what_nobody_expects_keeps_no_other_back() -> None:
    """Whatever one message meets, the outbox learns which were stored, and the cause is written once, with a code."""
    outbox, publisher = OneBatch(), OddPublisher()
    with capture_logs() as lines:
        async with Tracing("test") as tracing:
            await Relay(outbox, publisher, tracing=tracing, clock=HurriedClock()).flush()
    assert outbox.stored == [True, False, True]
    assert [message.data for message in publisher.messages] == [b"a", b"b"]
    [line] = [line for line in lines if line["event"] == "relay.publish_failed"]
    assert (line["topic"], line["error_code"], line["messages"]) == ("work", "INTERNAL", 1)
    assert isinstance(line["exc_info"], TypeError)
