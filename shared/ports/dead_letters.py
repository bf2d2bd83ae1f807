"""Failures as rows: kept, listed, grouped by cause, discarded, and replayed in batches.

A letter is of a job that ended `failed` (origin `job`) or of a message that could not be handled (origin `message`).
Every method is one transaction, and all of them raise what `shared.ports.stores` says. Every step of a replay may be
repeated: a crash between two of them loses nothing and sends nothing twice, except that a message whose publishing was
cut short may arrive twice.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, Protocol
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.ports.stores import Failure

UNDELIVERABLE = "MESSAGE_UNDELIVERABLE"
"""The code of a message that Pub/Sub gave up on and whose handler never recorded why."""

LETTER_ID = "dead_letter_id"
REPLAY_COUNT = "replay_count"
"""Attributes of what is replayed, so that the outcome finds its letter."""

RATE_MIN_PER_SECOND = 0.001
RATE_MAX_PER_SECOND = 1000.0
"""What a replay may ask for. A batch that was written down with another rate is sent at the nearest of these."""

Since = Annotated[AwareDatetime, Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(9999, 1, 1, tzinfo=UTC))]
"""A moment from which letters may be asked for. In any zone it has a year that the database can be asked with."""


class Origin(enum.StrEnum):
    """What came to its end without success."""

    JOB = "job"
    MESSAGE = "message"


class LetterState(enum.StrEnum):
    """`replaying` waits for its outcome; `resolved` and `discarded` are ends, unless it fails again."""

    OPEN = "open"
    REPLAYING = "replaying"
    RESOLVED = "resolved"
    DISCARDED = "discarded"


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """One failure. `body` is left out (None) in lists; `file_path` is that of a job's file."""

    id: UUID
    origin: Origin
    state: LetterState
    code: str
    message: str
    stage: str | None
    organization_id: str | None
    job_id: UUID | None
    file_path: str | None
    subscription: str | None
    message_id: str | None
    published_at: datetime | None
    deliveries: int | None
    attributes: Mapping[str, str]
    size_bytes: int
    failures: int
    replays: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    note: str | None
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterFilter:
    """Which letters; None means any. A `stage` of "" asks for those without one."""

    code: str | None = None
    stage: str | None = None
    origin: Origin | None = None
    state: LetterState | None = None
    organization_id: str | None = None
    since: datetime | None = None
    ids: Sequence[UUID] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterPage:
    """Some letters, newest first, and where the next page starts (None: this is the last)."""

    letters: Sequence[DeadLetter]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LetterGroup:
    """Letters of one cause that are open or being replayed, and what people wrote about it."""

    code: str
    stage: str | None
    count: int
    replaying: int
    failures: int
    first_seen_at: datetime
    last_seen_at: datetime
    newest_id: UUID
    newest_message: str
    note: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class UndeliveredMessage:
    """A message from the dead-letter topic. Without a `letter_id` of ours it is known by its source and content."""

    subscription: str
    message_id: str
    published_at: datetime | None
    deliveries: int | None
    data: bytes
    attributes: Mapping[str, str]
    letter_id: UUID | None = None


class Intake(enum.StrEnum):
    """What taking a message in did: a new row, an old one that failed again, or nothing (it was here before)."""

    NEW = "new"
    FAILED_AGAIN = "failed_again"
    KNOWN = "known"


class DeadLetterStore(Protocol):
    """What the handlers of messages say of them."""

    async def record_message(
        self,
        *,
        subscription: str,
        message_id: str,
        published_at: datetime | None,
        data: bytes,
        attributes: Mapping[str, str],
        failure: Failure,
    ) -> UUID:
        """Keep a message that can never be handled, with the reason; the same message again raises its count.

        One that was replayed is known by its attribute and reopens its own row.
        """
        ...

    async def resolve(self, letter_id: UUID) -> bool:
        """Note that a replayed message was handled; False if its letter was not waiting for that."""
        ...


class LetterIntake(Protocol):
    """What the dead-letter topic brings."""

    async def take_in(self, message: UndeliveredMessage) -> Intake:
        """Keep a message that Pub/Sub gave up on. Taken in again, it changes nothing."""
        ...

    async def is_known(self, letter_id: UUID) -> bool:
        """Say whether there is such a letter."""
        ...

    async def resolve(self, letter_id: UUID) -> bool:
        """Note that a replayed message needs nothing more; False if its letter was not waiting for that."""
        ...


class LetterDirectory(Protocol):
    """Letters as operators see them."""

    async def page(self, filters: LetterFilter, *, cursor: str | None, limit: int) -> LetterPage:
        """Return a page, newest first. Raises `InvalidRequest` for a cursor that is not ours."""
        ...

    async def get(self, letter_id: UUID) -> DeadLetter | None:
        """Return one letter with its body."""
        ...

    async def groups(self) -> list[LetterGroup]:
        """Return the causes of what is open, the most frequent first."""
        ...

    async def note_group(self, *, code: str, stage: str | None, note: str) -> None:
        """Write a note on a cause; an empty one removes it."""
        ...

    async def discard(self, filters: LetterFilter, *, reason: str, limit: int) -> int:
        """Discard letters that are open or being replayed; return how many. A replay that is on its way goes on, and
        reopens its letter if it fails.
        """
        ...


class BatchState(enum.StrEnum):
    """Requested (letters are being staged), waiting for its canary, running, or ended."""

    REQUESTED = "requested"
    CANARY = "canary"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What became of the letters of a batch. `superseded` ended without work, `unknown` without an answer in time."""

    staged: int = 0
    sent: int = 0
    resolved: int = 0
    failed: int = 0
    superseded: int = 0
    unknown: int = 0
    dropped: int = 0

    @property
    def total(self) -> int:
        """Letters of the batch."""
        return (
            self.staged + self.sent + self.resolved + self.failed + self.superseded + self.unknown + self.dropped
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayRequest:
    """What is asked for. `by` says who, for people; `force` includes letters that were replayed too often."""

    filters: LetterFilter
    by: str
    max_letters: int | None = None
    rate_per_second: float = 10.0
    canary: bool = False
    force: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayBatch:
    """A request and how far it is."""

    id: UUID
    state: BatchState
    request: ReplayRequest
    automatic: bool
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    tally: Tally


class BatchKey(NamedTuple):
    """Where a batch stands among all of them, the oldest first."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """What a request would do now: letters it would replay, and those it would leave out, by reason."""

    replayable: int
    need_force: int = 0
    not_replayable: int = 0
    replaying: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """What asking for the next send did: `sent` and `ended` moved a letter; else `wait_seconds` says when to ask."""

    moved: bool
    wait_seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Outcomes that no transaction had recorded."""

    resolved: int = 0
    reopened: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayRules:
    """Bounds of every replay. `topics` says to which topic a message of a subscription goes back."""

    topics: Mapping[str, str] = field(default_factory=dict)
    free_replays: int = 3
    outcome_seconds: float = 2 * 3600.0


class ReplayStore(Protocol):
    """Batches and their steps. Several callers may take steps of one batch at once: each step happens once."""

    async def preview(self, request: ReplayRequest) -> Preview:
        """Count, and change nothing."""
        ...

    async def request(self, request: ReplayRequest, *, batch_id: UUID | None = None) -> ReplayBatch:
        """Write a request down; the same `batch_id` again changes nothing."""
        ...

    async def request_automatic(self, *, by: str, rate_per_second: float) -> ReplayBatch | None:
        """Ask for the letters that our own outage may have caused, those that were never replayed; None if there are
        none, or such a batch is not ended. A letter that turns out to be unsendable is not asked for again.
        """
        ...

    async def batch(self, batch_id: UUID) -> ReplayBatch | None:
        """Return one batch."""
        ...

    async def batches(self, *, limit: int) -> list[ReplayBatch]:
        """Return the newest batches."""
        ...

    async def unfinished(self, *, limit: int, after: BatchKey | None = None) -> list[BatchKey]:
        """Return a page of the batches that a step can be taken of, the oldest first; empty: there are no more.

        A batch that only waits for outcomes is none of them, until the last of its outcomes is there.
        """
        ...

    async def stage(self, batch_id: UUID, *, limit: int) -> int:
        """Take open letters into a batch that is `requested`, so that no other takes them; 0: all are staged."""
        ...

    async def move(self, batch_id: UUID, before: BatchState, after: BatchState, *, reason: str | None = None) -> bool:
        """Move a batch on; False if somebody else has."""
        ...

    async def send_next(self, batch_id: UUID) -> Turn:
        """Replay the next staged letter, if the rate (and the canary) allow it now.

        A job goes back to the queue with fresh attempts, a message to the outbox; what is no longer wanted is resolved.
        """
        ...

    async def release(self, batch_id: UUID, *, limit: int) -> int:
        """Reopen letters of a stopped batch that were not sent; return how many."""
        ...

    async def settle(self, *, limit: int) -> Settled:
        """Record outcomes that nobody told: of cancelled jobs, and of messages that are not heard of for too long."""
        ...


def letter_id_of(attributes: Mapping[str, str]) -> UUID | None:
    """Return the letter that a replayed message names; anybody may write attributes, so it may name none of ours."""
    try:
        return UUID(attributes[LETTER_ID])
    except (KeyError, ValueError):
        return None
