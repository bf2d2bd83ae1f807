"""A job as its owner sees it: its state, its ledger, and its moves as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from aiohttp import web

from services.api.callers import Caller
from services.api.route import Call, Route
from services.api.schemas import JobDetail, JobParams, LedgerEntry, StreamParams
from shared.clock import Clock
from shared.errors import DependencyUnavailable, HeadraceError, InvalidRequest, NotFound
from shared.model.job import TERMINAL, Job, JobEvent
from shared.ports.stores import JobDirectory

_log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0
RECONNECT_MS = 1000


class JobEndpoints:
    """Reads single jobs. A job that the caller may not see is answered like one that does not exist."""

    def __init__(
        self, directory: JobDirectory, clock: Clock, *, stream_seconds: float, streams_max: int, closing: asyncio.Event
    ) -> None:
        """Streams end after `stream_seconds`, or when `closing` is set; `streams_max` may be open at once."""
        self._directory = directory
        self._clock = clock
        self._stream_seconds = stream_seconds
        self._streams_max = streams_max
        self._closing = closing
        self._streams = 0

    def routes(self) -> Sequence[Route[Any, Any]]:
        """Return the endpoints."""
        return (
            Route(
                method="GET",
                path="/api/v1/jobs/{id}",
                summary="A job with its ledger: every stage, when it was entered and how long it took",
                params=JobParams,
                answer=JobDetail,
                handler=self.show,
                errors=(404,),
            ),
            Route(
                method="GET",
                path="/api/v1/jobs/{id}/events",
                summary="The ledger as server-sent events: `stage` for each move, `end` when the job has ended",
                params=StreamParams,
                answer=None,
                handler=self.events,
                media_type="text/event-stream",
                errors=(404, 503),
            ),
        )

    async def show(self, call: Call[JobParams, None]) -> JobDetail:
        """Answer with one job."""
        job = await self._visible(call.params.id, call.caller)
        return JobDetail.with_ledger(job, await self._directory.ledger(job.id, call.caller.scope))

    async def events(self, call: Call[StreamParams, None]) -> web.StreamResponse:
        """Replay what the client has not seen, then follow until the job ends, the time is over or we stop."""
        job = await self._visible(call.params.id, call.caller)
        seen = _last_seen(call)
        if self._streams >= self._streams_max:
            raise DependencyUnavailable("Too many event streams are open; try again shortly.", code="TOO_MANY_STREAMS")
        self._streams += 1
        try:
            response = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
            )
            await response.prepare(call.request)
            try:
                await response.write(f"retry: {RECONNECT_MS}\n\n".encode())
                await self._follow(response, job, call.caller, seen)
            except ConnectionResetError:
                pass  # the client is gone: nobody is left to be told
            except HeadraceError as error:
                # The status is sent: all that can be said now is the end of the stream, and the client comes back.
                _log.warning("stream.broken", job_id=str(job.id), error_code=error.code, error=error.message)
            return response
        finally:
            self._streams -= 1

    async def _follow(self, response: web.StreamResponse, job: Job, caller: Caller, seen: int) -> None:
        started = quiet_since = self._clock.monotonic()
        while True:
            ledger = await self._directory.ledger(job.id, caller.scope)
            for entry in ledger:
                if entry.seq > seen:
                    await response.write(_event("stage", LedgerEntry.of(entry).model_dump_json(), entry.seq))
                    seen = entry.seq
                    quiet_since = self._clock.monotonic()
            end = await self._end(ledger, job, caller, seen)
            if end is not None:
                await response.write(_event("end", end.model_dump_json(), seen))
                return
            now = self._clock.monotonic()
            if self._closing.is_set() or now - started >= self._stream_seconds:
                return
            if now - quiet_since >= KEEP_ALIVE_SECONDS:
                await response.write(b": still here\n\n")
                quiet_since = now
            await _sleep_or(self._closing, self._clock, POLL_SECONDS)

    async def _end(self, ledger: Sequence[JobEvent], job: Job, caller: Caller, seen: int) -> LedgerEntry | None:
        """Return how the job ended, None while it has not."""
        if ledger:
            return LedgerEntry.of(ledger[-1]) if ledger[-1].status in TERMINAL else None
        # Moves are removed by age, jobs too, and history never had any: the row says whether there are some to come.
        row = await self._directory.get(job.id, caller.scope)
        if row is not None and row.status not in TERMINAL:
            return None
        last = row or job
        return LedgerEntry(
            seq=seen,
            attempt=last.attempts,
            status=last.status,
            stage=last.stage,
            occurred_at=last.completed_at or last.updated_at,
            duration_ms=None,
            detail={},
        )

    async def _visible(self, job_id: UUID, caller: Caller) -> Job:
        job = await self._directory.get(job_id, caller.scope)
        if job is None or not caller.may_see(job):
            raise NotFound(f"There is no job {job_id}.")
        return job


def _last_seen(call: Call[StreamParams, None]) -> int:
    text = call.request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return call.params.after
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidRequest("Last-Event-ID is the number of the last event that was seen.")
    return int(text)


def _event(name: str, data: str, event_id: int) -> bytes:
    return f"id: {event_id}\nevent: {name}\ndata: {data}\n\n".encode()


async def _sleep_or(signal: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Return after `seconds`, or as soon as the signal is set."""
    waits = {asyncio.ensure_future(signal.wait()), asyncio.ensure_future(clock.sleep(seconds))}
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
