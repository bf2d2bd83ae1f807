"""Tells the broker what was committed: right after each handler for its own rows, and each second for what is left."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind

from shared.clock import Clock
from shared.errors import HeadraceError, code_of
from shared.events.envelope import TRACE_PARENT
from shared.ports.broker import Message, Publisher
from shared.ports.outbox import Outbox, Sent
from shared.telemetry.tracing import Tracing

_log = structlog.get_logger(__name__)

BATCH = 200
LEFT_BEHIND_SECONDS = 2.0
"""Rows younger than this are left to the handler that wrote them."""


class Relay:
    """Publishes the outbox. What cannot be published stays in it; nothing is lost, at worst it is published twice."""

    def __init__(self, outbox: Outbox, publisher: Publisher, *, tracing: Tracing, clock: Clock) -> None:
        """Take the ports."""
        self._outbox, self._publisher = outbox, publisher
        self._tracing, self._clock = tracing, clock
        self._stopping = asyncio.Event()

    async def flush(self, job_id: UUID | None = None) -> Sent:
        """Publish the rows of one job (or of all): called after the commit and before the ack. Never raises for it.

        A failure is left to the loops and to the recover service: the work is done and recorded either way.
        """
        try:
            return await self._outbox.send(self._publish, limit=BATCH, job_id=job_id)
        except HeadraceError as error:
            _log.warning("relay.flush_failed", job_id=str(job_id), error_code=error.code)
            return Sent()

    async def run(self) -> None:
        """Each second, until `stop`: ring for what became due, and publish what a crashed handler left behind."""
        while not self._stopping.is_set():
            try:
                await self._outbox.ring_due(limit=BATCH)
                await self._outbox.send(self._publish, limit=BATCH, older_than_seconds=LEFT_BEHIND_SECONDS)
            except HeadraceError as error:
                _log.warning("relay.round_failed", error_code=error.code)
            except Exception as error:  # noqa: BLE001 - a loop that ends would end its service; the next round may do
                _log.error("relay.round_failed", error_code="INTERNAL", exc_info=error)
            await self._pause(1.0)

    async def drain(self, *, limit: int = BATCH, without: frozenset[str] = frozenset()) -> Sent:
        """Publish one batch of everything that is unsent, however young, but for some topics.

        Raises:
            HeadraceError: what the database raises.
        """
        return await self._outbox.send(self._publish, limit=limit, without=without)

    async def stop(self) -> None:
        """Let `run` return after its present round; returns at once."""
        self._stopping.set()

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({sleep, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stopped.cancel()

    async def _publish(self, messages: Sequence[Message]) -> Sequence[bool]:
        errors = await asyncio.gather(*(self._publish_one(message) for message in messages))
        # A line for each cause: a topic that refuses would write hundreds each second.
        causes: defaultdict[tuple[str, str], list[Exception]] = defaultdict(list)
        for message, error in zip(messages, errors, strict=True):
            if error is not None:
                causes[message.topic, code_of(error)].append(error)
        for (topic, code), met in causes.items():
            unknown = None if isinstance(met[0], HeadraceError) else met[0]
            _log.warning("relay.publish_failed", topic=topic, error_code=code, messages=len(met), exc_info=unknown)
        return [error is None for error in errors]

    async def _publish_one(self, message: Message) -> Exception | None:
        """Return why the broker did not store it, or None."""
        with self._tracing.span(
            f"publish {message.topic}",
            parent=message.attributes.get(TRACE_PARENT),
            kind=SpanKind.PRODUCER,
            attributes={"messaging.system": "gcp_pubsub", "messaging.destination.name": message.topic},
        ):
            try:
                await self._publisher.publish(message)
            except Exception as error:  # noqa: BLE001 - raised, it would undo the marks of all that are stored beside it
                return error
        return None
