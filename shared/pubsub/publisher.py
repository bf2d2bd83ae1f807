# mypy: disable-error-code="no-untyped-call"
"""Sends messages through google-cloud-pubsub.

The library's own retries are off: with ordering enabled they never end (it raises every deadline to 136 years). One
publish is one bounded call; the outbox is what tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

from google.cloud.pubsub_v1 import PublisherClient
from google.cloud.pubsub_v1.types import BatchSettings, PublisherOptions
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

from shared.errors import DependencyUnavailable, HeadraceError, InvalidRequest
from shared.ports.broker import Message
from shared.pubsub.channel import stand_in_channel
from shared.pubsub.errors import translated
from shared.pubsub.topics import topic_path
from shared.telemetry.instruments import PUBLISHED
from shared.telemetry.metrics import Metrics

_GRACE_SECONDS = 2.0  # more than the library needs to report its own deadline
_RESERVED = frozenset({"self", "topic", "data", "ordering_key", "retry", "timeout"})
"""The library's own parameters, `self` among them; attributes are whatever other names it is called with."""


class PubSubPublisher:
    """Implements `shared.ports.broker.Publisher`. An async context manager: it works only within its block."""

    def __init__(
        self,
        *,
        project_id: str,
        metrics: Metrics,
        emulator_host: str | None = None,
        deadline_seconds: float = 10.0,
        max_latency_seconds: float = 0.002,
    ) -> None:
        """Take `emulator_host` (host:port) to talk to a stand-in without credentials.

        `max_latency_seconds` is how long a message waits for company; one that is sent alone is late by that much.
        """
        self._project_id = project_id
        self._metrics = metrics
        self._emulator_host = emulator_host
        self._deadline_seconds = deadline_seconds
        self._replacing = asyncio.Lock()
        self._batching = BatchSettings(max_latency=max_latency_seconds, max_messages=500)

    async def __aenter__(self) -> Self:
        """Open the client.

        Raises:
            AuthenticationError: there are no credentials.
        """
        with translated("Pub/Sub"):
            self._client = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace_back: TracebackType | None
    ) -> None:
        self._close(self._client)

    async def publish(self, message: Message) -> str:
        """Send one message; see the port. A caller that is cancelled does not know whether it was stored."""
        try:
            message_id = await self._publish(message)
        except HeadraceError as error:
            self._metrics.add(PUBLISHED, topic=message.topic, outcome=error.code.lower())
            raise
        self._metrics.add(PUBLISHED, topic=message.topic, outcome="stored")
        return message_id

    async def _publish(self, message: Message) -> str:
        client, path = self._client, topic_path(self._project_id, message.topic)
        if reserved := _RESERVED & message.attributes.keys():
            raise InvalidRequest(f"The client library cannot send attributes named {', '.join(sorted(reserved))}.")
        try:
            with translated(path):
                future = client.publish(
                    path,
                    message.data,
                    ordering_key=message.ordering_key,
                    retry=None,
                    timeout=self._deadline_seconds,
                    **message.attributes,
                )
                async with asyncio.timeout(self._deadline_seconds + _GRACE_SECONDS):
                    return str(await asyncio.wrap_future(future))
        except TimeoutError:
            # The library lets a batch hang for ever when credentials cannot be refreshed, and with it the ordering key.
            await self._replace(client)
            raise DependencyUnavailable(f"Publishing to {path} did not end in time.") from None
        except HeadraceError:
            if message.ordering_key:
                # The library pauses the key before it reports the failure. Who fails second finds it resumed already.
                with contextlib.suppress(RuntimeError):
                    client.resume_publish(path, message.ordering_key)
            raise

    async def _replace(self, stuck: PublisherClient) -> None:
        """Open another client for all that wait for this one: the first does, the others only say that they failed.

        They do not wait for it either: where opening fails, and slowly, each would try it again after the other.
        """
        if self._client is not stuck or self._replacing.locked():
            return
        async with self._replacing:
            with translated("Pub/Sub"):
                self._client = await asyncio.to_thread(self._open)
            self._close(stuck)

    def _open(self) -> PublisherClient:
        transport = None
        if self._emulator_host:
            transport = PublisherGrpcTransport(channel=stand_in_channel(self._emulator_host))
        return PublisherClient(
            batch_settings=self._batching,
            publisher_options=PublisherOptions(enable_message_ordering=True),
            transport=transport,
        )

    @staticmethod
    def _close(client: PublisherClient) -> None:
        client.stop()
        client.transport.close()
