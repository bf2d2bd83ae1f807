"""Sends traces and metrics before a process may be frozen: Cloud Run stops its processor between requests."""

from __future__ import annotations

import asyncio

import structlog

from shared.telemetry.metrics import FLUSH_SECONDS, Metrics
from shared.telemetry.tracing import Tracing

_log = structlog.get_logger(__name__)


async def flush(tracing: Tracing, metrics: Metrics) -> None:
    """Send what is there, for a second at most; what could not be sent in time is sent later, and nothing is raised."""
    try:
        async with asyncio.timeout(FLUSH_SECONDS):
            failed = await asyncio.gather(tracing.flush(), metrics.flush(), return_exceptions=True)
    except TimeoutError:
        _log.warning("telemetry.not_flushed", error_type="TimeoutError")
        return
    for error in failed:
        if isinstance(error, Exception):
            _log.warning("telemetry.not_flushed", error_type=type(error).__name__)
