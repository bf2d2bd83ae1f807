# mypy: disable-error-code="no-untyped-call"
"""The library's subscriber client, made to bear a broker that is away: acks that cannot be sent, streams that fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.api_core.exceptions import RetryError, ServiceUnavailable
from google.cloud.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from shared.pubsub.channel import stand_in_channel


class BestEffortSubscriberClient(SubscriberClient):
    """Reports an ack or lease that could not be sent for a minute as unavailable, and never has two streams.

    The library's own client raises `RetryError` when it gives up on an ack, which its streaming pull passes out of a
    thread: the thread that extends leases, or the one that sends acks, dies with a stack trace, and with a stream that
    was left behind it does so a minute after the stop. An error of the service is what those threads expect, log and
    survive; the stream is opened again by its own means. Why never two streams: see `Stream`.
    """

    def streaming_pull(self, *args: Any, **kwargs: Any) -> Any:
        """Open a stream; why it failed is told when it is read from, or written to."""
        return Stream(super().streaming_pull(*args, **kwargs))

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


class Stream:
    """An open stream as the library's `bidi.ResumableBidiRpc` uses it; it tells of its end only once it is read from.

    The library opens the next stream when it is told that one has ended, and also when it reads from one that has. With
    a stream that fails while it is being opened, as all do soon after the broker went away, the two get into each
    other's way: the next stream is opened within the opening of the failed one, which then takes its place, and a third
    one follows. Nobody reads from the second, and the broker gives it a share of the messages for as long as it stays
    open: each of them comes an ack deadline later, with a delivery attempt burned.
    Seen with google-api-core 2.44 (`BidiRpc.open` keeps the call only after it has added its callback).
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._is_kept = False

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call back at the end with what gRPC knows of it; if nobody has read until then, the first reader is told."""

        def ended(call: Any) -> None:
            if self._is_kept:
                callback(call)

        self._call._wrapped.add_done_callback(ended)  # noqa: SLF001 - as the library does: it passes nothing else out

    def is_active(self) -> bool:
        """Tell whether it has not ended."""
        active: bool = self._call.is_active()
        return active

    def cancel(self) -> None:
        """End it."""
        self._call.cancel()

    def __next__(self) -> Any:
        """Wait for a response.

        Raises:
            GoogleAPICallError: the stream has ended.
        """
        self._is_kept = True
        return next(self._call)


def open_subscriber(emulator_host: str | None) -> BestEffortSubscriberClient:
    """Open a client; `emulator_host` (host:port) talks to a stand-in without credentials."""
    transport = None
    if emulator_host:
        transport = SubscriberGrpcTransport(channel=stand_in_channel(emulator_host))
    return BestEffortSubscriberClient(transport=transport)
