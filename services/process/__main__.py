"""`python -m services.process`: the process of the process service."""

from __future__ import annotations

from shared.collector import pause

if __name__ == "__main__":
    pause()

    from services.process.app import build
    from services.process.settings import ProcessSettings
    from shared.runtime.app import run

    run(build, ProcessSettings)
