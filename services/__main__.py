"""`python -m services`: everything in one process, for people who look at the log; `headrace up` is the kinder way."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from services.laptop import everything
from shared.errors import HeadraceError
from shared.settings import environment
from shared.telemetry.logs import configure_logs


async def run_all(data_dir: Path) -> None:
    """Run until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with everything(data_dir, database_url=environment().get("DATABASE_URL")):
        await stop.wait()


def main() -> int:
    """Run with the data directory that is named, and return the exit code."""
    configure_logs("INFO", "console")
    data_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(".headrace")
    try:
        asyncio.run(run_all(data_dir.absolute()))
    except HeadraceError as error:
        sys.stderr.write(f"error {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
