"""What the ingest service reads from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import OwnerSettings


class IngestSettings(OwnerSettings):
    """The common settings, whose objects are whose, and how many notifications are handled at once."""

    ingest_concurrency: int = Field(8, ge=1, le=200, description="Notifications handled at once")
