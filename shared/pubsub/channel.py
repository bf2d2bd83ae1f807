# mypy: disable-error-code="no-untyped-call"
"""How a stand-in for Pub/Sub is reached: without credentials, for messages of any size, and soon after it is back."""

from __future__ import annotations

import grpc

_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    # gRPC waits up to two minutes by itself, which suits a service that is never away, not a local server's restart.
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # Messages have up to 10 MB. The library says so of the channels it makes; gRPC receives 4 MB by itself.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


def stand_in_channel(address: str) -> grpc.Channel:
    """Return a channel to `address` (host:port); nothing is connected before the first call."""
    channel: grpc.Channel = grpc.insecure_channel(address, options=_OPTIONS)
    return channel
