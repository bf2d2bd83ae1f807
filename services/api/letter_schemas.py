"""What the API says and accepts about dead letters and their replay."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, model_validator

from services.api.schemas import Answer, Request, Text
from shared.ports.dead_letters import (
    RATE_MAX_PER_SECOND,
    RATE_MIN_PER_SECOND,
    BatchState,
    DeadLetter,
    LetterFilter,
    LetterGroup,
    LetterState,
    Origin,
    Preview,
    ReplayBatch,
    Since,
)

PATH = "/api/v1/admin/dead-letters"
PAYLOAD_SHOWN_BYTES = 64 * 1024

Code = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
StageName = Annotated[str, Field(pattern=r"^[a-z_]{0,32}$", description="Empty for letters without a stage")]
Organization = Annotated[Text, Field(min_length=1, max_length=128)]


class LetterParams(Request):
    """One letter."""

    id: UUID


class BatchParams(Request):
    """One batch."""

    id: UUID


class LetterListParams(Request):
    """Filters of the list; all that are given must hold."""

    code: Code | None = None
    stage: StageName | None = None
    origin: Origin | None = None
    state: LetterState | None = None
    organization_id: Organization | None = None
    since: Since | None = None
    cursor: Annotated[Text, Field(min_length=1, max_length=64)] | None = None
    limit: int = Field(50, ge=1, le=200)

    def filters(self) -> LetterFilter:
        """Return what is meant."""
        return LetterFilter(**{name: getattr(self, name) for name in _FILTERS})


_FILTERS = ("code", "stage", "origin", "state", "organization_id", "since")


class BatchListParams(Request):
    """How many of the newest batches."""

    limit: int = Field(20, ge=1, le=100)


class LetterSelection(Request):
    """Which letters: ids, filters that must all hold, or `all`."""

    ids: list[UUID] | None = Field(None, min_length=1, max_length=1000)
    code: Code | None = None
    stage: StageName | None = None
    origin: Origin | None = None
    organization_id: Organization | None = None
    since: Since | None = None
    all: bool = Field(False, description="Needed to mean every open letter: without it, an empty selection is refused")

    @model_validator(mode="after")
    def _says_what(self) -> LetterSelection:
        names = ("ids", "code", "stage", "origin", "organization_id", "since")
        if self.all == any(getattr(self, name) is not None for name in names):
            raise ValueError("say which letters: ids, filters, or all")
        return self

    def filters(self) -> LetterFilter:
        """Return what is meant."""
        return LetterFilter(
            ids=self.ids,
            code=self.code,
            stage=self.stage,
            origin=self.origin,
            organization_id=self.organization_id,
            since=self.since,
        )


class ReplayBody(LetterSelection):
    """A request to replay letters."""

    limit: int | None = Field(None, ge=1, le=1_000_000, description="Letters at most, the oldest first")
    rate: float = Field(
        10.0, ge=RATE_MIN_PER_SECOND, le=RATE_MAX_PER_SECOND, allow_inf_nan=False, description="Letters a second"
    )
    canary: bool = Field(False, description="Send one, wait for its outcome, and go on only if it succeeds")
    force: bool = Field(False, description="Include letters that were replayed three times already")
    dry_run: bool = Field(False, description="Say what would be done, and do nothing")


class ReplayOneBody(Request):
    """How one letter is replayed."""

    force: bool = False


class DiscardOneBody(Request):
    """Why one letter is discarded."""

    reason: Annotated[Text, Field(min_length=1, max_length=500)]


class DiscardBody(LetterSelection):
    """Letters to discard, and why."""

    reason: Annotated[Text, Field(min_length=1, max_length=500)]
    limit: int = Field(1000, ge=1, le=10_000)


class GroupNoteBody(Request):
    """A note on a cause; an empty one removes it."""

    code: Code
    stage: StageName = ""
    note: Annotated[Text, Field(max_length=2000)]


class LetterView(Answer):
    """One failure as operators see it."""

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
    attributes: dict[str, str]
    size_bytes: int
    failures: int
    replays: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolution: str | None
    note: str | None

    @classmethod
    def of(cls, letter: DeadLetter) -> LetterView:
        """Return what is shown of a letter."""
        return LetterView(**_fields(letter))


class LetterDetail(LetterView):
    """A letter with its payload, in base64; `payload_cut` says that this is only its beginning."""

    payload: str | None
    payload_cut: bool

    @classmethod
    def whole(cls, letter: DeadLetter) -> LetterDetail:
        """Return what is shown of a letter and its payload."""
        shown = None if letter.body is None else base64.b64encode(letter.body[:PAYLOAD_SHOWN_BYTES]).decode()
        return cls(**_fields(letter), payload=shown, payload_cut=len(letter.body or b"") > PAYLOAD_SHOWN_BYTES)


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {name: getattr(letter, name) for name in LetterView.model_fields}


class LetterList(Answer):
    """A page of letters, newest first."""

    letters: list[LetterView]
    next_cursor: str | None = Field(description="Hand this back as `cursor` for the next page; null on the last one")


class GroupView(Answer):
    """A cause, with what is open of it."""

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

    @classmethod
    def of(cls, group: LetterGroup) -> GroupView:
        """Return what is shown of a cause."""
        return cls(**{name: getattr(group, name) for name in cls.model_fields})


class GroupList(Answer):
    """Causes, the most frequent first."""

    groups: list[GroupView]


class BatchView(Answer):
    """A request to replay, and what became of its letters."""

    id: UUID
    state: BatchState
    requested_by: str
    selection: dict[str, Any]
    limit: int | None
    rate: float
    canary: bool
    force: bool
    automatic: bool
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    total: int
    staged: int
    sent: int
    resolved: int
    failed: int
    superseded: int
    unknown: int
    dropped: int

    @classmethod
    def of(cls, batch: ReplayBatch) -> BatchView:
        """Return what is shown of a batch; of a long list of ids only how many they are."""
        asked = batch.request
        selection = {
            name: value
            for name in _FILTERS
            if (value := getattr(asked.filters, name)) is not None
        }  # fmt: skip
        if asked.filters.ids is not None:
            selection["ids"] = len(asked.filters.ids)
        tally = {name: getattr(batch.tally, name) for name in (*batch.tally.__slots__, "total")}
        return cls(
            id=batch.id, state=batch.state, requested_by=asked.by, selection=selection, limit=asked.max_letters,
            rate=asked.rate_per_second, canary=asked.canary, force=asked.force, automatic=batch.automatic,
            reason=batch.reason, created_at=batch.created_at, ended_at=batch.ended_at, **tally,
        )  # fmt: skip


class BatchList(Answer):
    """Batches, the newest first."""

    batches: list[BatchView]


class ReplayAnswer(Answer):
    """What a request would do, and the batch that does it (null for a dry run)."""

    replayable: int
    need_force: int
    not_replayable: int
    replaying: int
    batch: BatchView | None

    @classmethod
    def of(cls, found: Preview, batch: ReplayBatch | None) -> ReplayAnswer:
        """Return both."""
        return cls(
            replayable=found.replayable,
            need_force=found.need_force,
            not_replayable=found.not_replayable,
            replaying=found.replaying,
            batch=None if batch is None else BatchView.of(batch),
        )


class Discarded(Answer):
    """How many letters were discarded; as many as the limit means that there may be more."""

    discarded: int
