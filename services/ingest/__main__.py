"""`python -m services.ingest`: the process of the ingest service."""

from __future__ import annotations

from services.ingest.app import build
from services.ingest.settings import IngestSettings
from shared.runtime.app import run

if __name__ == "__main__":
    run(build, IngestSettings)
