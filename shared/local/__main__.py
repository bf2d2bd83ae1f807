"""`python -m shared.local --data DIR`: run the embedded servers until SIGTERM or Ctrl-C, and print where they are."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import signal
import sys
from pathlib import Path

import structlog

from shared import settings
from shared.errors import HeadraceError
from shared.local.stack import LocalStack


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m shared.local", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".headrace"), help="the folder that keeps everything")
    parser.add_argument("--project", default="headrace-local")
    parser.add_argument("--bucket", default="uploads")
    parser.add_argument("--database-url", help="use this database instead of an embedded one")
    options = parser.parse_args(arguments)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the addresses
    try:
        stack = LocalStack(
            options.data,
            project=options.project,
            bucket=options.bucket,
            database_url=options.database_url,
            k_service=settings.environment().get("K_SERVICE"),
        )
        asyncio.run(_run(stack))
    except HeadraceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _run(stack: LocalStack) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with stack:
        for name, value in stack.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stdout.write("# ready\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    sys.exit(main())
