"""`Outbox` on Postgres: rows stay locked while they are published, so that two senders do not send the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from shared.events.catalogue import StageChanged
from shared.events.envelope import TRACE_PARENT, attributes_of, body_of
from shared.ports.broker import Message
from shared.ports.outbox import Publish, Sent
from shared.postgres import effects, queries

if TYPE_CHECKING:
    from shared.postgres.pool import Connection, Database


WORK, STAGES = "work", "stages"

BATCH_BYTES = 4_000_000
"""Of one topic's messages that are published at once; a larger one goes alone. Stage events are far smaller than
that: a batch of them is bounded by its rows."""


class PostgresOutbox:
    """See `shared.ports.outbox.Outbox`."""

    def __init__(self, database: Database) -> None:
        """Take the pool."""
        self._db = database
        self._sql = queries.load("outbox")

    async def send(  # noqa: D102
        self,
        publish: Publish,
        *,
        limit: int,
        job_id: UUID | None = None,
        older_than_seconds: float = 0,
        without: frozenset[str] = frozenset(),
    ) -> Sent:
        if job_id is not None:
            return await self._send_of_job(publish, limit, job_id) + await self._send_events(publish, [job_id], limit)
        sent = Sent()
        for topic in await self._topics():
            if topic not in without:
                sent += await self._send_of_topic(publish, limit, topic, older_than_seconds)
        if STAGES not in without:
            sent += await self._send_events(publish, await self._waiting(limit, older_than_seconds), limit)
        return sent

    async def _topics(self) -> list[str]:
        """Return the topics that something waits for, the workers' first."""
        async with self._db.get_connection() as connection:
            found = await self._sql.topics_with_unsent.all(connection)
        return sorted((row["topic"] for row in found), key=lambda topic: (topic != WORK, topic))

    async def _waiting(self, limit: int, older_than_seconds: float) -> list[UUID]:
        """Return the jobs that have lines to publish."""
        async with self._db.get_connection() as connection:
            found = await self._sql.jobs_with_unsent_events.all(
                connection, limit=limit, older_than_seconds=float(older_than_seconds)
            )
        return [row["job_id"] for row in found]

    async def _send_of_topic(self, publish: Publish, limit: int, topic: str, older_than_seconds: float) -> Sent:
        async with self._db.transaction() as connection:
            found = await self._sql.unsent_of_topic.all(
                connection,
                topic=topic,
                limit=limit,
                limit_bytes=BATCH_BYTES,
                older_than_seconds=float(older_than_seconds),
            )
            return await self._tell(connection, publish, found)

    async def _send_of_job(self, publish: Publish, limit: int, job_id: UUID) -> Sent:
        async with self._db.transaction() as connection:
            found = await self._sql.unsent_of_job.all(connection, job_id=job_id, limit=limit)
            return await self._tell(connection, publish, found)

    async def _tell(self, connection: Connection, publish: Publish, found: Sequence[Any]) -> Sent:
        if not found:
            return Sent()
        stored = await publish([_message(row) for row in found])
        ids = [row["id"] for row, done in zip(found, stored, strict=True) if done]
        await self._sql.mark_bells.run(connection, ids=ids)
        refused = frozenset(row["topic"] for row, done in zip(found, stored, strict=True) if not done)
        return Sent(published=len(ids), failed=len(found) - len(ids), refused=refused)

    async def _send_events(self, publish: Publish, waiting: Sequence[UUID], limit: int) -> Sent:
        """Publish lines of these jobs in one transaction; jobs that another sender is at are left to it."""
        if not waiting:
            return Sent()
        async with self._db.transaction() as connection:
            held = await self._sql.hold_events.all(connection, job_ids=list(waiting))
            if not held:
                return Sent()
            found = await self._sql.unsent_events.all(connection, job_ids=[row["job_id"] for row in held], limit=limit)
            if not found:
                return Sent()
            stored = await publish([_stage_changed(row) for row in found])
            told = _up_to_the_first_failure(found, stored)
            if told:
                count = await self._sql.mark_events.run(connection, job_ids=list(told), seqs=list(told.values()))
            else:
                count = 0
        failed = len(found) - count
        return Sent(published=count, failed=failed, refused=frozenset({STAGES} if failed else ()))

    async def forget_bells(self) -> int:  # noqa: D102
        async with self._db.get_connection() as connection:
            return await self._sql.forget_bells.run(connection)

    async def ring_due(self, *, limit: int) -> int:  # noqa: D102
        async with self._db.transaction() as connection:
            due = await self._sql.ring_due.all(connection, limit=limit)
            await effects.ring_all(connection, due)
        return len(due)


def _up_to_the_first_failure(found: Sequence[Any], stored: Sequence[bool]) -> dict[UUID, int]:
    """Return, for each job, the line up to which all is stored: what follows a failed one may have overtaken it."""
    told: dict[UUID, int] = {}
    failed: set[UUID] = set()
    for row, done in zip(found, stored, strict=True):
        if not done:
            failed.add(row["job_id"])
        elif row["job_id"] not in failed:
            told[row["job_id"]] = row["seq"]
    return told


def _message(row: Any) -> Message:
    data = row["data"] if row["data"] is not None else json.dumps(row["body"]).encode()
    return Message(topic=row["topic"], data=data, attributes=row["attributes"])


def _stage_changed(row: Any) -> Message:
    event = StageChanged(
        job_id=row["job_id"],
        seq=row["seq"],
        organization_id=row["organization_id"],
        file_path=row["file_path"],
        generation=row["generation"],
        attempt=row["attempt"],
        status=row["status"],
        stage=row["stage"],
        occurred_at=row["occurred_at"],
        error_code=row["detail"].get("error_code"),
    )
    attributes = attributes_of(event, organization_id=row["organization_id"], status=row["status"], stage=row["stage"])
    if row["trace_parent"]:
        attributes[TRACE_PARENT] = row["trace_parent"]
    return Message(topic=STAGES, data=body_of(event), attributes=attributes, ordering_key=str(row["job_id"]))
