"""Every event that travels, by name and version. Fields are only ever added; a new meaning is a new version.

The golden JSON schemas in `schemas/` are generated from here and compared in a test: a change of contract shows up in
review as a change of those files.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from shared.model.job import Lane, Stage, Status


class Event(BaseModel):
    """What all events share. Unknown fields of a newer version are ignored; wrong types are not."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    TYPE: ClassVar[str]
    VERSION: ClassVar[int] = 1


class WorkBell(Event):
    """Rung when a lane has work: "claim this lane's best due job". The job id is a hint for logs, not an order."""

    TYPE: ClassVar[str] = "headrace.work.bell"

    lane: Lane
    job_id: UUID | None = None
    quarantined: bool = False
    """Rung for a job that was rescued from a dead worker, and has to run alone."""


class StageChanged(Event):
    """A job made a move, and it is committed. Ordered per job; a consumer drops a `seq` it has passed."""

    TYPE: ClassVar[str] = "headrace.stage.changed"

    job_id: UUID
    seq: int
    organization_id: str
    file_path: str | None
    generation: int | None
    attempt: int
    status: Status
    stage: Stage
    occurred_at: datetime
    error_code: str | None = None


class DeadLettered(Event):
    """A job or a message came to its end without success; the row of this id can be listed and replayed."""

    TYPE: ClassVar[str] = "headrace.dead_letter"

    dead_letter_id: UUID
    origin: Literal["job", "message"]
    job_id: UUID | None
    code: str
    stage: Stage | None
    occurred_at: datetime


CATALOGUE: tuple[type[Event], ...] = (WorkBell, StageChanged, DeadLettered)
