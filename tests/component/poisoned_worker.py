"""The process service, but work on a file that begins with `poison` ends the whole process, as a bug in C would."""

from __future__ import annotations

import os

from services.process import app
from services.process.settings import ProcessSettings
from services.process.spaces import SpaceWork
from shared.model.job import Job
from shared.runtime.app import run


class PoisonedWork(SpaceWork):
    """Dies of one kind of file."""

    async def __call__(self, job: Job) -> None:
        """Do the work, or die."""
        if (job.name or "").startswith("poison"):
            os._exit(9)
        await super().__call__(job)


if __name__ == "__main__":
    app.SpaceWork = PoisonedWork  # type: ignore[misc]
    run(app.build, ProcessSettings)
