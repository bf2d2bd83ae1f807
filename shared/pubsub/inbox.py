# mypy: disable-error-code="no-untyped-call"
"""Takes a bounded batch from one subscription and answers it: for runs that come and go, not for listening."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from google.api_core import exceptions as api
from google.api_core.retry import Retry, if_exception_type
from google.api_core.timeout import ConstantTimeout
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from shared.ports.broker import Delivery, Taken
from shared.pubsub.channel import stand_in_channel
from shared.pubsub.errors import translated
from shared.pubsub.topics import subscription_path

_ANSWER_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_RECONNECTING = Retry(
    predicate=if_exception_type(api.ServiceUnavailable), initial=0.2, multiplier=2, maximum=2.0, timeout=8.0
)
"""A channel that was idle while the service went away learns of it by its first call."""


class PubSubInbox:
    """Implements `shared.ports.broker.Inbox`. An async context manager: it works only within its block."""

    def __init__(self, subscription: str, *, project_id: str, emulator_host: str | None = None) -> None:
        """Take `emulator_host` (host:port) to talk to a stand-in without credentials."""
        self._subscription = subscription
        self._path = subscription_path(project_id, subscription)
        self._emulator_host = emulator_host
        self._is_connected = False

    async def __aenter__(self) -> Self:
        """Open the client.

        Raises:
            AuthenticationError: there are no credentials.
        """
        with translated(self._path):
            self._client = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._client.close)

    async def take(self, *, limit: int, wait_seconds: float) -> Sequence[Taken]:  # noqa: D102
        with translated(self._path):
            return await asyncio.to_thread(self._pull, limit, wait_seconds)

    async def ack(self, taken: Sequence[Taken]) -> None:  # noqa: D102
        if taken:
            with translated(self._path):
                await asyncio.to_thread(self._acknowledge, [one.ack_id for one in taken])

    async def nack(self, taken: Sequence[Taken]) -> None:  # noqa: D102
        if taken:
            with translated(self._path):
                await asyncio.to_thread(self._give_back, [one.ack_id for one in taken])

    def _open(self) -> SubscriberClient:
        transport = None
        if self._emulator_host:
            transport = SubscriberGrpcTransport(channel=stand_in_channel(self._emulator_host))
        return SubscriberClient(transport=transport)

    def _pull(self, limit: int, wait_seconds: float) -> list[Taken]:
        self._connect()
        try:
            answer = self._client.pull(
                subscription=self._path,
                max_messages=limit,
                retry=_RECONNECTING,
                timeout=ConstantTimeout(max(0.1, wait_seconds)),
            )
        except api.DeadlineExceeded:  # the service holds the question until something comes; nothing has
            return []
        return [
            Taken(delivery=self._delivery(received), ack_id=received.ack_id) for received in answer.received_messages
        ]

    def _connect(self) -> None:
        """Wait for the first connection, so that the time it takes is not mistaken for "nothing there"."""
        if self._is_connected:
            return
        transport: Any = self._client.transport
        try:
            grpc.channel_ready_future(transport.grpc_channel).result(timeout=_CONNECT_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise api.ServiceUnavailable("no connection") from error
        self._is_connected = True

    def _delivery(self, received: Any) -> Delivery:
        message = received.message
        return Delivery(
            subscription=self._subscription,
            message_id=message.message_id,
            published_at=message.publish_time,
            data=message.data,
            attributes=dict(message.attributes),
            ordering_key=message.ordering_key,
            delivery_attempt=received.delivery_attempt,
        )

    def _acknowledge(self, ids: list[str]) -> None:
        self._client.acknowledge(subscription=self._path, ack_ids=ids, retry=None, timeout=_ANSWER_SECONDS)

    def _give_back(self, ids: list[str]) -> None:
        self._client.modify_ack_deadline(
            subscription=self._path, ack_ids=ids, ack_deadline_seconds=0, retry=None, timeout=_ANSWER_SECONDS
        )
