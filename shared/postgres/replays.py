"""`ReplayStore` on Postgres: every step is a transaction under the lock of its batch or of its letter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.clock import Clock, SystemClock
from shared.errors import InvalidRequest
from shared.ids import uuid7
from shared.ports.dead_letters import (
    LETTER_ID,
    RATE_MAX_PER_SECOND,
    RATE_MIN_PER_SECOND,
    REPLAY_COUNT,
    UNDELIVERABLE,
    BatchKey,
    BatchState,
    LetterFilter,
    Origin,
    Preview,
    ReplayBatch,
    ReplayRequest,
    ReplayRules,
    Settled,
    Tally,
    Turn,
)
from shared.ports.stores import Scope
from shared.postgres import queries
from shared.postgres.dead_letters import arguments
from shared.postgres.directory import PostgresJobDirectory

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database

MAX_MESSAGE_BYTES = 9_900_000
MAX_ATTRIBUTES = 98
"""What Pub/Sub takes, less what is added; a message beyond would stay in the outbox for ever."""

_NOT_SENT_AGAIN = ("CloudPubSub", "googclient_")
_NOT_SENDABLE = frozenset({"self", "topic", "data", "ordering_key", "retry", "timeout", LETTER_ID, REPLAY_COUNT})
"""Names that the publishing library cannot send as attributes, and our own, which are set anew."""

_BUSY_SECONDS = 0.2
_LONGEST_WAIT_SECONDS = 2 / RATE_MIN_PER_SECOND
"""No rate makes a longer wait; one that was written down before rates were bounded may have."""

_START = BatchKey(datetime.min.replace(tzinfo=UTC), UUID(int=0))


class PostgresReplayStore:
    """See `shared.ports.dead_letters.ReplayStore`."""

    def __init__(self, database: Database, rules: ReplayRules, *, clock: Clock | None = None) -> None:
        """Take the pool and the bounds."""
        self._db, self._rules = database, rules
        self._clock = clock or SystemClock()
        self._sql, self._jobs = queries.load("replays"), queries.load("jobs")
        self._directory = PostgresJobDirectory(database)

    async def preview(self, request: ReplayRequest) -> Preview:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.preview.first(
                connection,
                **arguments(request.filters),
                force=request.force,
                free_replays=self._rules.free_replays,
                subscriptions=list(self._rules.topics),
            )
        replayable = row["replayable"] if request.max_letters is None else min(row["replayable"], request.max_letters)
        return Preview(**(dict(row) | {"replayable": replayable}))

    async def request(self, request: ReplayRequest, *, batch_id: UUID | None = None) -> ReplayBatch:  # noqa: D102
        batch_id = batch_id or uuid7(self._clock)
        async with self._db.transaction() as connection:
            await self._sql.add_batch.run(
                connection,
                id=batch_id,
                requested_by=request.by,
                selection=_selection(request.filters),
                max_letters=request.max_letters,
                rate_per_second=float(request.rate_per_second),
                canary=request.canary,
                force=request.force,
            )
            return _batch(await self._sql.get_batch.first(connection, id=batch_id))

    async def request_automatic(self, *, by: str, rate_per_second: float) -> ReplayBatch | None:  # noqa: D102
        async with self._db.transaction() as connection:
            batch_id = await self._sql.add_automatic_batch.value(
                connection,
                id=uuid7(self._clock),
                requested_by=by,
                selection=_selection(LetterFilter(origin=Origin.MESSAGE, code=UNDELIVERABLE)),
                rate_per_second=float(rate_per_second),
                code=UNDELIVERABLE,
                subscriptions=list(self._rules.topics),
            )
            return None if batch_id is None else _batch(await self._sql.get_batch.first(connection, id=batch_id))

    async def batch(self, batch_id: UUID) -> ReplayBatch | None:  # noqa: D102
        async with self._db.get_connection() as connection:
            row = await self._sql.get_batch.first(connection, id=batch_id)
        return None if row is None else _batch(row)

    async def batches(self, *, limit: int) -> list[ReplayBatch]:  # noqa: D102
        async with self._db.get_connection() as connection:
            newest = await self._sql.newest_batches.all(connection, limit=limit)
            return [_batch(await self._sql.get_batch.first(connection, id=row["id"])) for row in newest]

    async def unfinished(self, *, limit: int, after: BatchKey | None = None) -> list[BatchKey]:  # noqa: D102
        created_at, batch_id = after or _START
        async with self._db.get_connection() as connection:
            found = await self._sql.unfinished_batches.all(
                connection, after_created_at=created_at, after_id=batch_id, limit=limit
            )
        return [BatchKey(row["created_at"], row["id"]) for row in found]

    async def stage(self, batch_id: UUID, *, limit: int) -> int:  # noqa: D102
        async with self._db.transaction() as connection:
            batch = await self._sql.lock_requested.first(connection, id=batch_id)
            if batch is None:
                return 0
            if batch["max_letters"] is not None:
                limit = min(limit, batch["max_letters"] - batch["letters"])
            if limit <= 0:
                return 0
            return await self._sql.stage_letters.run(
                connection,
                **arguments(_filters(batch["selection"])),
                batch_id=batch_id,
                before=batch["created_at"],
                force=batch["force"],
                automatic=batch["automatic"],
                free_replays=self._rules.free_replays,
                subscriptions=list(self._rules.topics),
                limit=limit,
            )

    async def move(  # noqa: D102
        self, batch_id: UUID, before: BatchState, after: BatchState, *, reason: str | None = None
    ) -> bool:
        async with self._db.get_connection() as connection:
            return (
                await self._sql.move_batch.run(connection, id=batch_id, before=before, after=after, reason=reason) > 0
            )

    async def send_next(self, batch_id: UUID) -> Turn:  # noqa: D102
        async with self._db.transaction() as connection:
            batch = await self._sql.lock_running.first(connection, id=batch_id)
            if batch is None:  # ended, or another sender is at it
                return Turn(moved=False, wait_seconds=_BUSY_SECONDS)
            if 0 < batch["wait_seconds"] < _LONGEST_WAIT_SECONDS:
                return Turn(moved=False, wait_seconds=batch["wait_seconds"])
            if batch["state"] == "canary" and await self._sql.canary_is_out.value(connection, id=batch_id):
                return Turn(moved=False)
            replay = await self._sql.next_staged.first(connection, id=batch_id)
            if replay is None:
                return Turn(moved=False)
            if replay["origin"] == "job":
                sent = await self._send_job(connection, batch, replay)
            else:
                sent = await self._send_message(connection, batch, replay["letter_id"])
            if sent:
                await self._sql.take_turn.run(
                    connection, id=batch_id, pace_seconds=_pace_seconds(batch["rate_per_second"])
                )
            return Turn(moved=True)

    async def _send_job(self, connection: Connection, batch: Any, replay: Any) -> bool:
        """Requeue the job, as a person would. Document and job are locked first, as everybody does."""
        if replay["document_id"] is not None:
            await self._jobs.lock_document.first(connection, document_id=replay["document_id"])
        job = None
        if replay["job_id"] is not None:
            job = await self._jobs.lock_job.first(connection, job_id=replay["job_id"])
        ids = {"batch_id": batch["id"], "letter_id": replay["letter_id"]}
        if await self._sql.lock_letter.first(connection, **ids) is None:
            await self._sql.drop_replay.run(connection, **ids)
            return False
        if job is None:
            return await self._supersede(connection, ids, "the job is gone")
        if job["status"] == "completed":
            return await self._supersede(connection, ids, "the job has completed")
        if job["status"] in {"failed", "cancelled"}:
            try:
                await self._directory.retry(job["id"], Scope())
            except InvalidRequest as error:
                return await self._supersede(connection, ids, error.message)
            await self._sql.count_replay.run(connection, letter_id=replay["letter_id"], automatic=False)
        # Else somebody has put it back in the queue already: its outcome is this replay's too.
        await self._sql.mark_sent.run(connection, **ids)
        return True

    async def _send_message(self, connection: Connection, batch: Any, letter_id: UUID) -> bool:
        ids = {"batch_id": batch["id"], "letter_id": letter_id}
        letter = await self._sql.lock_letter.first(connection, **ids)
        if letter is None:
            await self._sql.drop_replay.run(connection, **ids)
            return False
        topic = self._rules.topics.get(letter["subscription"] or "")
        attributes = _attributes(letter)
        body: bytes = letter["body"] or b""
        if topic is None or not _fits(body, attributes):
            # It will not fit next time either: whoever replays by himself has asked for it, and lets it be.
            await self._sql.end_replay.run(connection, **ids, state="unknown")
            await self._sql.reopen_letter.run(connection, letter_id=letter_id, automatic=batch["automatic"])
            return False
        await self._sql.add_message.run(connection, topic=topic, attributes=attributes, data=body)
        await self._sql.count_replay.run(connection, letter_id=letter_id, automatic=batch["automatic"])
        await self._sql.mark_sent.run(connection, **ids)
        return True

    async def _supersede(self, connection: Connection, ids: Mapping[str, UUID], why: str) -> bool:
        await self._sql.end_replay.run(connection, **ids, state="superseded")
        await self._sql.resolve_letter.run(connection, letter_id=ids["letter_id"], resolution=f"superseded: {why}")
        return False

    async def release(self, batch_id: UUID, *, limit: int) -> int:  # noqa: D102
        async with self._db.transaction() as connection:
            released = await self._sql.release_letters.run(connection, id=batch_id, limit=limit)
            return released or await self._sql.forget_staged.run(connection, id=batch_id)

    async def settle(self, *, limit: int) -> Settled:  # noqa: D102
        resolved = reopened = 0
        async with self._db.transaction() as connection:
            for row in await self._sql.ended_jobs.all(connection, limit=limit):
                if row["status"] != "completed":
                    await self._sql.supersede_replays.run(connection, letter_id=row["letter_id"])
                became = "superseded" if row["status"] == "failed" else row["status"]
                await self._sql.resolve_letter.run(
                    connection, letter_id=row["letter_id"], resolution=f"the job was {became}"
                )
                resolved += 1
            silent = await self._sql.silent_messages.all(
                connection, outcome_seconds=float(self._rules.outcome_seconds), limit=limit
            )
            for row in silent:
                await self._sql.end_replay.run(
                    connection, batch_id=row["batch_id"], letter_id=row["letter_id"], state="unknown"
                )
                await self._sql.reopen_letter.run(connection, letter_id=row["letter_id"], automatic=False)
                reopened += 1
        return Settled(resolved=resolved, reopened=reopened)


def _pace_seconds(rate_per_second: float) -> float:
    return 1 / min(RATE_MAX_PER_SECOND, max(RATE_MIN_PER_SECOND, rate_per_second))


def _attributes(letter: Any) -> dict[str, str]:
    """Return what the message is sent with again: its own, and whose outcome it will be."""
    own = {
        key: value
        for key, value in letter["attributes"].items()
        if not key.startswith(_NOT_SENT_AGAIN) and key not in _NOT_SENDABLE
    }
    return own | {LETTER_ID: str(letter["id"]), REPLAY_COUNT: str(letter["replays"] + 1)}


def _fits(body: bytes, attributes: Mapping[str, str]) -> bool:
    size = len(body) + sum(len(f"{key}{value}".encode()) for key, value in attributes.items())
    return size <= MAX_MESSAGE_BYTES and len(attributes) <= MAX_ATTRIBUTES


def _selection(filters: LetterFilter) -> dict[str, Any]:
    said = arguments(filters) | {
        "since": None if filters.since is None else filters.since.isoformat(),
        "ids": None if filters.ids is None else [str(letter_id) for letter_id in filters.ids],
    }
    return {name: value for name, value in said.items() if value is not None}


def _filters(selection: Mapping[str, Any]) -> LetterFilter:
    said = dict(selection)
    if "since" in said:
        said["since"] = datetime.fromisoformat(said["since"])
    if "ids" in said:
        said["ids"] = [UUID(letter_id) for letter_id in said["ids"]]
    if "origin" in said:
        said["origin"] = Origin(said["origin"])
    return LetterFilter(**said)


def _batch(row: Any) -> ReplayBatch:
    return ReplayBatch(
        id=row["id"],
        state=BatchState(row["state"]),
        request=ReplayRequest(
            filters=_filters(row["selection"]),
            by=row["requested_by"],
            max_letters=row["max_letters"],
            rate_per_second=row["rate_per_second"],
            canary=row["canary"],
            force=row["force"],
        ),
        automatic=row["automatic"],
        reason=row["reason"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        tally=Tally(**{name: row[name] for name in Tally.__slots__}),
    )
