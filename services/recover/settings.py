"""What the recover service reads from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from shared.settings import DeliverySettings, Json, OwnerSettings, rule


class RecoverSettings(OwnerSettings, DeliverySettings):
    """The common settings, how often a run is made by ourselves, and the bounds of one run."""

    recover_callers: Json[tuple[str, ...]] = Field(
        (),
        description="Service accounts (emails, as a JSON list) that may ask for a run, with tokens for PUSH_AUDIENCE; "
        "when empty, whoever can reach this service",
    )
    recover_every_seconds: float = Field(
        0, ge=0, description="Run so often by ourselves; 0 leaves it to a scheduler that asks over HTTP"
    )
    broker_starts_empty: bool = Field(
        False, description="Whether every bell is lost when this service starts, as with the broker of a laptop"
    )
    stuck_job_threshold_minutes: float = Field(5, gt=0, description="How old a bell is before it is rung again")
    batch_size: int = Field(50, ge=1, le=1000, description="Jobs taken at once")
    function_timeout_seconds: float = Field(540, ge=15, description="Time limit of one run")
    function_timeout_buffer_seconds: float = Field(30, ge=0, description="Kept back at the end of a run")
    reconcile_every_seconds: float = Field(3600, ge=0, description="How often bucket and index are compared")
    prune_every_seconds: float = Field(3600, ge=0, description="How often what is old is removed")
    outbox_keep_days: int = Field(7, ge=1, description="How long published bells and dead letters are kept")
    ledger_keep_days: int = Field(90, ge=1, description="How long the moves of jobs are kept, once published")
    deleted_keep_days: int = Field(
        30, ge=1, description="How long a document and its jobs are kept after its object is gone"
    )
    letters_keep_days: int = Field(
        90, ge=1, description="How long dead letters are kept after they were resolved or discarded"
    )
    replays_keep_days: int = Field(30, ge=1, description="How long batches of replays are kept after their end")
    on_failed_overwrite: Literal["withdraw", "keep"] = Field(
        "withdraw", description="Whether the old version stays searchable when the new one cannot be indexed"
    )

    @rule
    def _tokens_have_an_audience(self) -> Iterator[str]:
        if self.recover_callers and not self.push_audience:
            yield "RECOVER_CALLERS needs PUSH_AUDIENCE"
