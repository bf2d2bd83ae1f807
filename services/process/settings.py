"""What the process service reads from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.settings import DeliverySettings, ModelSettings, OwnerSettings


class ProcessSettings(ModelSettings, OwnerSettings, DeliverySettings):
    """The common settings, the models, how bells come, and the bounds of the work."""

    process_concurrency: int = Field(
        4, ge=2, le=100, description="Jobs worked on at once; one slot is always kept for the interactive lane"
    )
    push_slice_seconds: float = Field(
        540.0, gt=0, le=540, description="After so long a pushed job is checkpointed and goes on in the next delivery"
    )
    max_defer_hours: int = Field(24, ge=1, le=240, description="How long a job may wait for one and the same reason")
    bulk_import_max_pending: int = Field(
        200,
        ge=1,
        le=10_000,
        description="Jobs of one import that wait or are worked on at most; it makes no more till then",
    )
    on_failed_overwrite: Literal["withdraw", "keep"] = Field(
        "withdraw", description="Whether the old version stays searchable when the new one cannot be indexed"
    )
    extract_deadline_seconds: float = Field(
        300, gt=0, description="Bound on the extraction of one file; pages read by OCR apart"
    )
    extract_memory_bytes: int = Field(1536 * 1024 * 1024, ge=64 * 1024 * 1024, description="Memory of one extraction")
    temp_dir: str | None = Field(None, description="Where files are kept while they are worked on")
