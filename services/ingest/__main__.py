"""`python -m services.ingest`: the process of the ingest service."""

from __future__ import annotations

from shared.collector import pause

if __name__ == "__main__":
    pause()

    from services.ingest.app import build
    from services.ingest.settings import IngestSettings
    from shared.runtime.app import run

    run(build, IngestSettings)
