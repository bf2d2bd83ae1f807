"""What the ingest service reads from the environment."""

from __future__ import annotations

from pydantic import Field

from shared.settings import DeliverySettings, OwnerSettings


class IngestSettings(OwnerSettings, DeliverySettings):
    """The common settings, whose objects are whose, and how notifications come: by which way, and how many at once."""

    ingest_concurrency: int = Field(8, ge=1, le=200, description="Notifications handled at once")
