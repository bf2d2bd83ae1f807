"""One bell: claim the lane's best due job, run it under its lease, and record how it ended. One place decides that.

A bell that finds nothing due is simply acked. A failure that is recorded is an ack too: the next attempt stands in the
database. Only what could not be recorded is left to the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import structlog
from opentelemetry.trace import SpanKind

from services.process.quarantine import Quarantine
from services.process.registry import Registry, handle
from services.process.slices import GRACE_SECONDS, Paused, SliceOver, watched
from shared.clock import Clock
from shared.errors import HeadraceError, InvalidRequest, LeaseLost, RetryableError, Superseded
from shared.events.catalogue import WorkBell
from shared.events.envelope import read
from shared.model.document import ObjectRef
from shared.model.job import Job
from shared.model.outcome import BUSY, DONE, NOTHING_DUE, RECORDED, REFUSED, Outcome, Verdict
from shared.ports.broker import Delivery
from shared.ports.dead_letters import DeadLetterStore
from shared.ports.stores import Failure, WorkQueue
from shared.telemetry.instruments import DEAD_LETTERS, JOB_FAILURES, JOBS, QUEUE_WAIT_SECONDS, RETRIES
from shared.telemetry.metrics import Metrics
from shared.telemetry.tracing import Tracing
from shared.worker.gate import TRIES, Gate, is_outage
from shared.worker.lease import under_lease
from shared.worker.relay import Relay
from shared.worker.retry import Again, Later, Over, RetryPolicy, describe
from shared.worker.sync import Synchroniser

_log = structlog.get_logger(__name__)

LEASE_LOST = Outcome(Verdict.ACK, "lease_lost")
SUPERSEDED = Outcome(Verdict.ACK, "superseded")
DEFERRED = Outcome(Verdict.ACK, "deferred")
RETRYING = Outcome(Verdict.ACK, "retrying")
HANDED_ON = Outcome(Verdict.ACK, "handed_on")

ROOM_SECONDS = 15.0
"""How long a delivery that has an end waits while another job has to be alone, or the others have to leave."""


class AnswerBell:
    """Do the work that a bell stands for."""

    def __init__(
        self,
        *,
        worker: str,
        handlers: Registry,
        queue: WorkQueue,
        dead_letters: DeadLetterStore,
        synchroniser: Synchroniser,
        relay: Relay,
        retries: RetryPolicy,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        lease_seconds: float,
        heartbeat_seconds: float,
        gate: Gate | None = None,
        slice_seconds: float | None = None,
    ) -> None:
        """Take the registry of job types and the ports. With a gate, how a job ended is recorded across an outage.

        With `slice_seconds` a delivery has an end: a handler that does not stop by itself soon after is stopped, which
        costs an attempt if it has committed nothing by then.
        """
        self._worker, self._handlers, self._queue = worker, handlers, queue
        self._dead_letters, self._synchroniser, self._relay = dead_letters, synchroniser, relay
        self._retries, self._tracing, self._metrics, self._clock = retries, tracing, metrics, clock
        self._lease_seconds, self._heartbeat_seconds = lease_seconds, heartbeat_seconds
        self._gate = gate
        self._slice_seconds = slice_seconds
        self._quarantine = Quarantine()

    async def __call__(self, delivery: Delivery) -> Outcome:
        """Return once the job's end, or its next attempt, is committed and announced."""
        try:
            bell = read(WorkBell, delivery.data, delivery.attributes)
        except InvalidRequest as error:
            return await self._refuse(delivery, error)
        if bell.quarantined:
            async with self._admitted(self._quarantine.alone()) as admitted:
                if not admitted:
                    return BUSY
                job = await self._queue.claim(bell.lane, worker=self._worker, quarantined=True)
                if job is not None:
                    return await self._run(job)
        async with self._admitted(self._quarantine.together()) as admitted:
            if not admitted:
                return BUSY
            job = await self._queue.claim(bell.lane, worker=self._worker)
            return NOTHING_DUE if job is None else await self._run(job)

    @asynccontextmanager
    async def _admitted(self, room: AbstractAsyncContextManager[None]) -> AsyncIterator[bool]:
        """Be in the room and yield True; or False when a delivery that has an end waited for it too long."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(None if self._slice_seconds is None else ROOM_SECONDS) as patience:
                    await stack.enter_async_context(room)
            except TimeoutError:
                if not patience.expired():
                    raise
                yield False
                return
            yield True

    async def _run(self, job: Job) -> Outcome:
        context = {"job_id": str(job.id), "attempt": job.attempts, "organization_id": job.organization_id}
        if job.started_at is not None:
            waited = job.updated_at - max(job.next_attempt_at, job.created_at)
            self._metrics.record(QUEUE_WAIT_SECONDS, max(waited.total_seconds(), 0.0), lane=job.lane.value)
        with (
            structlog.contextvars.bound_contextvars(**context),
            self._tracing.span(
                f"process {job.job_type}",
                parent=job.trace_parent,
                kind=SpanKind.CONSUMER,
                attributes={"headrace.job_id": str(job.id), "headrace.attempt": job.attempts},
            ) as span,
        ):
            outcome = await self._attempt(job)
            span.set_attribute("headrace.outcome", outcome.name)
            self._metrics.add(JOBS, job_type=job.job_type.value, outcome=outcome.name)
            await self._relay.flush(job.id)
        return outcome

    async def _attempt(self, job: Job) -> Outcome:
        try:
            await self._work(job)
        except SliceOver:
            return await self._across_outages(lambda: self._hand_on(job))
        except Paused:
            return HANDED_ON
        except asyncio.CancelledError:
            # A shutdown. The attempt is handed back uncharged; if that fails too, the lease runs out and recover helps.
            await asyncio.shield(asyncio.ensure_future(self._hand_back(job)))
            raise
        except LeaseLost:
            _log.info("job.lease_lost")
            return LEASE_LOST
        except Superseded as error:
            return await self._superseded(job, error)
        except Exception as error:  # noqa: BLE001 - every failure is recorded on the job, by the one policy
            return await self._failed(job, error)
        _log.info("job.completed")
        return DONE

    async def _work(self, job: Job) -> None:
        """Do the work under its lease, to the end of the delivery at most.

        Raises:
            SliceOver: the work stopped with its slice; or it was stopped within a step, with something new committed.
            RetryableError: `SLICE_TOO_SHORT`: it was stopped, and nothing was.
            Exception: whatever else the work raised.
        """
        hard = asyncio.timeout(None if self._slice_seconds is None else self._slice_seconds + GRACE_SECONDS)
        with watched() as progress:
            try:
                async with hard:
                    await under_lease(
                        handle(self._handlers, job),
                        queue=self._queue,
                        lease=job.lease,
                        clock=self._clock,
                        heartbeat_seconds=self._heartbeat_seconds,
                        lease_seconds=self._lease_seconds,
                    )
            except TimeoutError:
                if not hard.expired():
                    raise
                _log.warning("job.step_stopped", handed_on=progress.is_made)
                if progress.is_made:
                    raise SliceOver from None
                raise RetryableError(
                    "One step of the work takes longer than a delivery may.", code="SLICE_TOO_SHORT"
                ) from None

    async def _failed(self, job: Job, error: Exception) -> Outcome:
        failure = describe(error)
        known = failure.code != "INTERNAL"
        _log.warning("job.attempt_failed", error_code=failure.code, exc_info=None if known else error)
        self._metrics.add(JOB_FAILURES, code=failure.code, stage="work")
        return await self._across_outages(lambda: self._recorded(job, error))

    async def _across_outages(self, record: Callable[[], Awaitable[Outcome]]) -> Outcome:
        for left in reversed(range(TRIES)):
            try:
                return await record()
            except HeadraceError as away:
                # Held rather than left to the lease: the file goes on when the database does, not minutes later.
                if not left or not is_outage(away) or self._gate is None or not await self._gate.reopened(away):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _recorded(self, job: Job, error: Exception) -> Outcome:
        waited = (job.updated_at - job.deferred_since).total_seconds() if job.deferred_since else 0
        decided = self._retries.after(
            error, attempts=job.attempts, max_attempts=job.max_attempts, deferred_seconds=waited
        )
        try:
            match decided:
                case Later(reason, delay) if await self._queue.defer(job.lease, reason, delay_seconds=delay):
                    self._metrics.add(RETRIES, reason="deferred")
                    return DEFERRED
                case Again(reason, delay):
                    await self._queue.retry(job.lease, reason, delay_seconds=delay)
                    self._metrics.add(RETRIES, reason="failed")
                    return RETRYING
                case Later(reason) | Over(reason):
                    await self._queue.fail(job.lease, reason)
                    self._metrics.add(DEAD_LETTERS, origin="job", event="created")
        except LeaseLost:
            return LEASE_LOST
        return RECORDED

    async def _superseded(self, job: Job, error: Superseded) -> Outcome:
        """The pinned generation is gone: cancel this job and decide about the object anew."""
        try:
            await self._queue.supersede(job.lease, Failure(code=error.code, message=error.message))
        except LeaseLost:
            return LEASE_LOST
        if job.bucket is not None and job.name is not None:
            _, committed = await self._synchroniser.bring_in_step(ObjectRef(job.bucket, job.name))
            await self._relay.flush(committed.job_id)
        return SUPERSEDED

    async def _hand_on(self, job: Job) -> Outcome:
        """Give the job to the next delivery, whose bell is part of this transaction; the attempt is not charged."""
        try:
            await self._queue.release(job.lease)
        except LeaseLost:
            return LEASE_LOST
        _log.info("job.handed_on")
        return HANDED_ON

    async def _hand_back(self, job: Job) -> None:
        try:
            await self._queue.release(job.lease)
            await self._relay.flush(job.id)
        except LeaseLost:
            _log.info("job.lease_lost")
        except Exception as error:  # noqa: BLE001 - on the way out; the lease's end does the same, later
            _log.warning("job.not_handed_back", error_code=describe(error).code)

    async def _refuse(self, delivery: Delivery, error: InvalidRequest) -> Outcome:
        await self._dead_letters.record_message(
            subscription=delivery.subscription,
            message_id=delivery.message_id,
            published_at=delivery.published_at,
            data=delivery.data,
            attributes=delivery.attributes,
            failure=Failure(code=error.code, message=error.message),
        )
        self._metrics.add(DEAD_LETTERS, origin="message", event="created")
        _log.warning("bell.refused", error_code=error.code)
        return REFUSED
