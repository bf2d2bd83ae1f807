"""Streaming pull: one stream of leases out, and of settlements in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from shared.errors import HeadraceError
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.lease import Consumer, Lease
from shared.local.pubsub.limits import MAX_MESSAGES, check_ack_deadline, invalid
from shared.local.pubsub.subscription import Subscription
from shared.local.pubsub.wire import Raw, StreamingPullResponse

RESPONSE_BYTES = 1024 * 1024
"""Where a response is cut; clients that did not raise gRPC's limit take at most 4 MB, one large message excepted."""


class StreamingPull:
    """One open stream.

    Its quota is free as soon as it ends, however it ends; its leases stay until their deadline, as in the service.
    """

    def __init__(self, broker: Broker, requests: AsyncIterator[Raw]) -> None:
        self._broker = broker
        self._requests = requests
        self._changed = asyncio.Event()
        self._failure: HeadraceError | None = None
        self._finished = False

    async def run(self, context: Any) -> None:
        """Serve the stream until the client ends it.

        Raises:
            HeadraceError: what the client did wrong, or that the subscription is gone.
        """
        try:
            first = await anext(self._requests)
        except StopAsyncIteration:
            raise invalid("A stream begins with the name of a subscription.") from None
        subscription = self._broker.subscription(first.subscription)
        subscription.check_pulled()
        check_ack_deadline(first.stream_ack_deadline_seconds, least=10)
        consumer = Consumer(
            wake=self._changed.set,
            ack_deadline_seconds=first.stream_ack_deadline_seconds,
            max_messages=first.max_outstanding_messages,
            max_bytes=first.max_outstanding_bytes,
        )
        _settle(subscription, first)
        subscription.attach(consumer)
        reader = asyncio.create_task(self._read(subscription, consumer))
        try:
            await self._write(subscription, consumer, context)
        finally:
            subscription.detach(consumer)
            reader.cancel()
            await asyncio.wait([reader])
        if not reader.cancelled():
            reader.result()

    async def _read(self, subscription: Subscription, consumer: Consumer) -> None:
        try:
            async for request in self._requests:
                if request.stream_ack_deadline_seconds:
                    check_ack_deadline(request.stream_ack_deadline_seconds, least=10)
                    consumer.ack_deadline_seconds = request.stream_ack_deadline_seconds
                _settle(subscription, request)
        except HeadraceError as error:
            self._failure = error
        finally:
            self._finished = True
            self._changed.set()

    async def _write(self, subscription: Subscription, consumer: Consumer, context: Any) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            while leases := consumer.take(MAX_MESSAGES, RESPONSE_BYTES):
                await context.write(_response(subscription, leases))
                subscription.dispatch()  # there is room in the inbox again
            if self._failure is not None:
                raise self._failure
            if consumer.closed_by is not None:
                raise consumer.closed_by
            if self._finished:
                return


def _settle(subscription: Subscription, request: Raw) -> None:
    if request.ack_ids:
        subscription.acknowledge(request.ack_ids)
    if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
        raise invalid("Deadlines and ack ids do not match in number.")
    for ack_id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
        check_ack_deadline(seconds)
        subscription.modify_ack_deadline([ack_id], seconds)


def fill_received(subscription: Subscription, leases: list[Lease], received: Raw) -> None:
    """Append leases to a repeated field of ReceivedMessage."""
    counts_attempts = bool(subscription.dead_letter_topic)
    for lease in leases:
        item = received.add(ack_id=lease.ack_id, message=lease.entry.message)
        if counts_attempts:
            item.delivery_attempt = lease.attempt


def _response(subscription: Subscription, leases: list[Lease]) -> Raw:
    response = StreamingPullResponse()
    response.subscription_properties.message_ordering_enabled = subscription.config.enable_message_ordering
    fill_received(subscription, leases, response.received_messages)
    return response
