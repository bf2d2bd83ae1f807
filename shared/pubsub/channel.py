# mypy: disable-error-code="no-untyped-call"
"""How a stand-in for Pub/Sub is reached: without credentials, and again within seconds of coming back."""

from __future__ import annotations

import grpc

_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 200),
    # gRPC waits up to two minutes by itself, which suits a service that is never away, not a local server's restart.
    ("grpc.max_reconnect_backoff_ms", 3_000),
)


def stand_in_channel(address: str) -> grpc.Channel:
    """Return a channel to `address` (host:port); nothing is connected before the first call."""
    channel: grpc.Channel = grpc.insecure_channel(address, options=_OPTIONS)
    return channel
