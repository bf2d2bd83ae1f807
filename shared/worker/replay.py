"""Carries replays out: the one code behind the API, the command line, the schedule and the `replay` topic.

A batch goes `requested` (letters are staged) → `canary`, if one is wanted → `running` → `done`, or `stopped` when too
much fails again. Every step is a transaction of the store and may be taken by anybody at any time: who asks takes the
first ones at once, and each recover run goes on with whatever is left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog

from shared.clock import Clock
from shared.errors import HeadraceError, InvalidRequest, NotFound, code_of
from shared.model.outcome import REFUSED, Outcome, Verdict
from shared.ports.broker import Delivery, Handler
from shared.ports.dead_letters import (
    BatchKey,
    BatchState,
    DeadLetterStore,
    LetterDirectory,
    LetterFilter,
    Preview,
    ReplayBatch,
    ReplayRequest,
    ReplayStore,
    Settled,
    Turn,
    letter_id_of,
)
from shared.telemetry.instruments import DEAD_LETTERS
from shared.telemetry.metrics import Metrics

_log = structlog.get_logger(__name__)

OUTCOMES_MIN = 5
FAILED_MAX = 0.10
"""A batch is stopped when, of at least so many outcomes, more than this share failed again."""

OUTSTANDING_MAX = 200
"""So many letters of a batch wait for their outcomes at most: the stop has to come before everything is sent."""

STAGED_AT_ONCE = 500
SENT_AT_ONCE = 50
BATCHES_AT_ONCE = 100
AGAIN_MAX = 1000
"""So many batches get more than one turn in one run; more would have to be remembered."""

AUTOMATIC_RATE_PER_SECOND = 50.0
AUTOMATIC = "recover"


@dataclass(frozen=True, slots=True)
class Move:
    """Where a batch goes from here, and why."""

    after: BatchState
    reason: str | None = None


def judge(batch: ReplayBatch) -> Move | None:
    """Say where a batch goes, given what became of its letters; None: on as it is."""
    tally = batch.tally
    nothing_left = tally.staged == 0 and tally.sent == 0
    match batch.state:
        case BatchState.CANARY if tally.failed or tally.unknown:
            return Move(BatchState.STOPPED, "the canary failed again" if tally.failed else "the canary is lost")
        case BatchState.CANARY if tally.resolved:
            return Move(BatchState.RUNNING)
        case BatchState.RUNNING if tally.staged:
            outcomes = tally.resolved + tally.failed
            if outcomes >= OUTCOMES_MIN and tally.failed > FAILED_MAX * outcomes:
                return Move(BatchState.STOPPED, f"{tally.failed} of {outcomes} failed again")
    if batch.state in {BatchState.CANARY, BatchState.RUNNING} and nothing_left:
        return Move(BatchState.DONE)
    return None


class Replays:
    """Replays dead letters. Safe to use from many tasks and processes at once."""

    def __init__(self, store: ReplayStore, letters: LetterDirectory, *, clock: Clock) -> None:
        """Take the ports."""
        self._store, self._letters, self._clock = store, letters, clock

    async def batch(self, batch_id: UUID) -> ReplayBatch | None:
        """Return one batch."""
        return await self._store.batch(batch_id)

    async def batches(self, *, limit: int) -> list[ReplayBatch]:
        """Return the newest batches."""
        return await self._store.batches(limit=limit)

    async def preview(self, request: ReplayRequest) -> Preview:
        """Say what a request would do now, and do nothing."""
        return await self._store.preview(request)

    async def request(
        self, request: ReplayRequest, *, batch_id: UUID | None = None, patience_seconds: float = 2.0
    ) -> ReplayBatch:
        """Write the request down and take its first steps; what is not done by then is left to the recover service.

        With the same `batch_id` it is the same request.
        """
        batch = await self._store.request(request, batch_id=batch_id)
        _log.info("replay.requested", batch_id=str(batch.id), by=request.by)
        await self.advance([batch.id], patience_seconds=patience_seconds)
        return await self._store.batch(batch.id) or batch

    async def one(self, letter_id: UUID, *, by: str, force: bool = False) -> ReplayBatch:
        """Replay one letter now.

        Raises:
            NotFound: there is no such letter.
            InvalidRequest: `REPLAY_OUTSTANDING`, `LETTER_ENDED`, `REPLAYED_TOO_OFTEN` (needs `force`) or
                `NOT_REPLAYABLE` (nobody knows where the message came from).
        """
        if await self._letters.get(letter_id) is None:
            raise NotFound("there is no such dead letter.")
        request = ReplayRequest(filters=LetterFilter(ids=[letter_id]), by=by, force=force)
        found = await self._store.preview(request)
        if not found.replayable:
            raise _refusal(found)
        batch = await self.request(request)
        if batch.tally.total == 0:  # somebody else was quicker
            raise _refusal(Preview(replayable=0, replaying=1))
        return batch

    async def stop(self, batch_id: UUID, *, by: str) -> ReplayBatch:
        """Stop a batch: letters that were not sent are open again. Stopping twice is allowed.

        Raises:
            NotFound: there is no such batch.
        """
        for state in (BatchState.REQUESTED, BatchState.CANARY, BatchState.RUNNING):
            await self._store.move(batch_id, state, BatchState.STOPPED, reason=f"stopped by {by}")
        await self.advance([batch_id], patience_seconds=2.0)
        batch = await self._store.batch(batch_id)
        if batch is None:
            raise NotFound("there is no such batch.")
        return batch

    async def settle(self, *, limit: int) -> Settled:
        """Record outcomes that nobody told."""
        return await self._store.settle(limit=limit)

    async def request_automatic(self) -> ReplayBatch | None:
        """Ask once for each message whose handler never recorded anything: our own outage may have been the cause."""
        return await self._store.request_automatic(by=AUTOMATIC, rate_per_second=AUTOMATIC_RATE_PER_SECOND)

    async def advance(self, batch_ids: Sequence[UUID] | None = None, *, patience_seconds: float) -> int:
        """Take steps of these batches (or of all), in turns, until each waits for outcomes or the time is over.

        A rate is waited for within the patience; at least one step is taken. Returns how many letters were sent or
        ended. A batch that fails is logged and left to the next call; the first such error is raised at the end, when
        the others had their turns.
        """
        until = self._clock.monotonic() + patience_seconds
        moved = 0
        failure: Exception | None = None
        todo = self._unfinished() if batch_ids is None else _each(batch_ids)
        while True:
            again: dict[UUID, float] = {}
            async with aclosing(todo):
                async for batch_id in todo:
                    try:
                        step = await self._step(batch_id)
                    except Exception as error:  # noqa: BLE001 - one batch must not stop the others; raised at the end
                        failure = failure or error
                        known = isinstance(error, HeadraceError)
                        _log.error(
                            "replay.batch_failed",
                            batch_id=str(batch_id),
                            error_code=code_of(error),
                            exc_info=None if known else error,
                        )
                    else:
                        moved += step.letters
                        if step.wait_seconds is not None and len(again) < AGAIN_MAX:
                            again[batch_id] = step.wait_seconds
                    if self._clock.monotonic() > until:
                        break
            if not again or self._clock.monotonic() + min(again.values()) > until:
                break
            await self._clock.sleep(min(again.values()))
            todo = _each(again)
        if failure is not None:
            raise failure
        return moved

    async def _unfinished(self) -> AsyncGenerator[UUID, None]:
        """Yield every batch that a step can be taken of, a page at a time."""
        after: BatchKey | None = None
        while page := await self._store.unfinished(limit=BATCHES_AT_ONCE, after=after):
            for after in page:
                yield after.id

    async def _step(self, batch_id: UUID) -> _Step:
        batch = await self._store.batch(batch_id)
        if batch is None:
            return _Step()
        match batch.state:
            case BatchState.REQUESTED:
                if await self._store.stage(batch_id, limit=STAGED_AT_ONCE) == 0:
                    first = BatchState.CANARY if batch.request.canary else BatchState.RUNNING
                    await self._store.move(batch_id, BatchState.REQUESTED, first)
                return _Step(wait_seconds=0.0)
            case BatchState.STOPPED if batch.tally.staged:
                released = await self._store.release(batch_id, limit=STAGED_AT_ONCE)
                return _Step(wait_seconds=0.0 if released else None)
            case BatchState.CANARY | BatchState.RUNNING:
                if verdict := judge(batch):
                    await self._store.move(batch_id, batch.state, verdict.after, reason=verdict.reason)
                    _log.info("replay.moved", batch_id=str(batch_id), state=verdict.after, reason=verdict.reason)
                    return _Step(wait_seconds=0.0)
                return await self._send(batch)
        return _Step()

    async def _send(self, batch: ReplayBatch) -> _Step:
        letters = 0
        turn = Turn(moved=True, wait_seconds=0.0)
        room = min(SENT_AT_ONCE, batch.tally.staged, OUTSTANDING_MAX - batch.tally.sent)
        while letters < room and turn.moved:
            turn = await self._store.send_next(batch.id)
            letters += turn.moved
        if room <= 0:
            return _Step()
        return _Step(letters, 0.0 if turn.moved else turn.wait_seconds)


async def _each(batch_ids: Iterable[UUID]) -> AsyncGenerator[UUID, None]:
    for batch_id in batch_ids:
        yield batch_id


@dataclass(frozen=True, slots=True)
class _Step:
    """How many letters moved, and when another step may do something (None: only an outcome can)."""

    letters: int = 0
    wait_seconds: float | None = None


def resolving(handler: Handler, letters: DeadLetterStore, metrics: Metrics | None = None) -> Handler:
    """Return the handler, noting on its letter that a replayed message was handled.

    Noted after the handler's own transaction and before the ack: in between, a crash brings the message again, and
    what it asks for is done already.
    """

    async def handle(delivery: Delivery) -> Outcome:
        outcome = await handler(delivery)
        letter_id = letter_id_of(delivery.attributes)
        handled = outcome.verdict is Verdict.ACK and outcome != REFUSED
        if letter_id is not None and handled and await letters.resolve(letter_id) and metrics is not None:
            metrics.add(DEAD_LETTERS, origin="message", event="resolved")
        return outcome

    return handle


def _refusal(found: Preview) -> InvalidRequest:
    if found.replaying:
        return InvalidRequest("it is being replayed; wait for the outcome.", code="REPLAY_OUTSTANDING")
    if found.need_force:
        return InvalidRequest("it was replayed too often already; force it if you know why.", code="REPLAYED_TOO_OFTEN")
    if found.not_replayable:
        return InvalidRequest("nobody knows where this message came from; discard it.", code="NOT_REPLAYABLE")
    return InvalidRequest("it is resolved or discarded; there is nothing to replay.", code="LETTER_ENDED")
