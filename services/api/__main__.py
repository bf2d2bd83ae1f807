"""`python -m services.api`: this service as a process of its own."""

from __future__ import annotations

from shared.collector import pause

if __name__ == "__main__":
    pause()

    from services.api.app import build
    from services.api.settings import ApiSettings
    from shared.runtime.app import run

    run(build, ApiSettings)
