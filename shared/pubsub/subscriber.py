# mypy: disable-error-code="no-untyped-call"
"""The library's subscriber client, with acks and leases that are best effort also while the broker is away."""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from shared.pubsub.channel import stand_in_channel


class BestEffortSubscriberClient(SubscriberClient):
    """Reports an ack or lease that could not be sent for a minute as unavailable.

    The library's own client raises `RetryError` then, which its streaming pull passes out of a thread: the thread that
    extends leases, or the one that sends acks, dies with a stack trace, and with a stream that was left behind it does
    so a minute after the stop. An error of the service is what those threads expect, log and survive; the stream is
    opened again by its own means.
    """

    def acknowledge(self, *args: Any, **kwargs: Any) -> None:
        """Ack.

        Raises:
            GoogleAPICallError: the broker refused, or could not be reached.
        """
        try:
            super().acknowledge(*args, **kwargs)
        except RetryError as error:
            raise ServiceUnavailable(str(error)) from error

    def modify_ack_deadline(self, *args: Any, **kwargs: Any) -> None:
        """Extend leases, or nack.

        Raises:
            GoogleAPICallError: the broker refused, or could not be reached.
        """
        try:
            super().modify_ack_deadline(*args, **kwargs)
        except RetryError as error:
            raise ServiceUnavailable(str(error)) from error


def open_subscriber(emulator_host: str | None) -> BestEffortSubscriberClient:
    """Open a client; `emulator_host` (host:port) talks to a stand-in without credentials."""
    transport = None
    if emulator_host:
        transport = SubscriberGrpcTransport(channel=stand_in_channel(emulator_host))
    return BestEffortSubscriberClient(transport=transport)
