"""Holds deliveries back while the database is away, so that an outage of ours uses up nobody's delivery attempts.

A delivery that met the outage is held where it is and handled again once the database answers; the broker keeps its
lease extended, and since what is held fills the puller's concurrency, nothing more is taken meanwhile. No task runs in
the background: the first of those who wait asks the database, the others wait for its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from shared.clock import Clock
from shared.errors import RetryableError, code_of

_log = structlog.get_logger(__name__)

OUTAGE_CODES = frozenset({"DATABASE_UNAVAILABLE", "DATABASE_LOGIN_REFUSED", "POOL_EXHAUSTED"})
"""Of our own database, which no file is to blame for; a login is refused while a password is being changed."""

TRIES = 4
"""How often one piece of work is begun before its failures are its own: a database that answers a ping may still
refuse this statement, and that is no outage."""

WAITS_SECONDS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
PROBE_SECONDS = 5.0
_SETTLED_SECONDS = 5.0  # one that closes again sooner goes on with the waits where it was


def is_outage(error: BaseException) -> bool:
    """Say whether this error means that the database is away, refuses us, or cannot lend a connection."""
    return code_of(error) in OUTAGE_CODES


def may_pass(error: BaseException) -> bool:
    """Say whether the same call may do later. A login that the database refuses may, and is not retryable otherwise."""
    return isinstance(error, RetryableError) or is_outage(error)


class Gate:
    """Open while the database answers. Safe to use from many tasks of one loop."""

    def __init__(self, probe: Callable[[], Awaitable[object]], *, clock: Clock) -> None:
        """`probe` returns when the database answers, and raises when it does not."""
        self._probe, self._clock = probe, clock
        self._is_open = True
        self._stopping = asyncio.Event()
        self._asking = asyncio.Lock()
        self._step = 0
        self._opened_at = clock.monotonic()

    @property
    def is_open(self) -> bool:
        """Whether deliveries may be handled; push answers 503 while they may not."""
        return self._is_open

    async def stop(self) -> None:
        """Let everybody who waits go, with False; returns at once."""
        self._stopping.set()

    async def passed(self) -> bool:
        """Return True once the gate is open, at once if it is; False when the service stops first."""
        if self.is_open:
            return True
        async with self._asking:
            while not (self._is_open or self._stopping.is_set()):
                await self._ask()
        return self._is_open

    async def reopened(self, error: Exception) -> bool:
        """Close because of this error, and return True once the database answers again; False when the service stops.

        After a connection that was cut, that is at once.
        """
        self._close(error)
        return await self.passed()

    def _close(self, error: Exception) -> None:
        if not self._is_open:
            return
        self._is_open = False
        if self._clock.monotonic() - self._opened_at > _SETTLED_SECONDS:
            self._step = 0
        _log.warning("gate.closed", error_code=code_of(error))

    async def _ask(self) -> None:
        await self._pause(WAITS_SECONDS[min(self._step, len(WAITS_SECONDS) - 1)])
        self._step += 1
        if self._stopping.is_set():
            return
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe()
        except Exception as error:  # noqa: BLE001 - however the question fails, the answer is "not yet"
            _log.info("gate.still_closed", error_code=code_of(error), asked=self._step)
            return
        self._is_open = True
        self._opened_at = self._clock.monotonic()
        _log.info("gate.opened", asked=self._step)

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({sleep, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stopped.cancel()
