"""The process of this service: it serves; with `--once` it makes one run, prints the summary and exits.

Exit codes of one run: 0 without errors, 1 with errors (then the next run goes on), 2 if the settings are wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack

from services.recover.app import build, recover_run
from services.recover.run import CONNECTION_WAITS_SECONDS
from services.recover.settings import RecoverSettings
from shared.clock import SystemClock
from shared.collector import resume
from shared.errors import ConfigurationError, HeadraceError
from shared.runtime.app import run
from shared.settings import load
from shared.telemetry.logs import configure_logs, secret_values
from shared.worker.gate import may_pass


async def once(settings: RecoverSettings) -> int:
    """Make one run, comparing bucket and index too; return the exit code.

    Raises:
        HeadraceError: the database stayed away, or refused us, for some seconds; nothing was done.
    """
    for wait_seconds in CONNECTION_WAITS_SECONDS:
        await SystemClock().sleep(wait_seconds)
        try:
            return await _run(settings)
        except HeadraceError as error:
            if not may_pass(error):
                raise
            away = error
    raise away


async def _run(settings: RecoverSettings) -> int:
    async with AsyncExitStack() as stack:
        make_run, _ = await recover_run(settings, stack)
        summary = await make_run(reconcile_now=True)
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if summary["ok"] else 1


def main() -> int:
    """Make one run, or serve until told to stop."""
    if "--once" not in sys.argv[1:]:
        run(build, RecoverSettings)
    resume()
    try:
        settings = load(RecoverSettings)
        configure_logs(
            settings.log_level,
            settings.log_format,
            project_id=settings.google_cloud_project_id,
            secrets=secret_values(settings),
        )
        return asyncio.run(once(settings))
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, ConfigurationError) else 1
