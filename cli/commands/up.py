"""The whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr
from pathlib import Path

from rich.console import Console
from rich.text import Text

from cli import look
from services.address import Address
from services.laptop import everything
from shared.clock import Clock, SystemClock
from shared.telemetry.logs import configure_logs

LOG_NAME = "headrace.log"


async def run(console: Console, data_dir: Path, *, verbose: bool) -> None:
    """Start, say where everything is, and stay."""
    async with started(console, data_dir, verbose=verbose) as stack:
        console.print(
            look.facts(
                [
                    ("API", Text(stack.api, style="address")),
                    ("bucket", f"gs://{stack.bucket} at {stack.storage}"),
                    ("data", str(data_dir)),
                    *([] if verbose else [("log", str(data_dir / LOG_NAME))]),
                ]
            ),
            soft_wrap=True,
        )
        console.print()
        console.print(
            "In another terminal: ./headrace upload FILE, then ./headrace search 'a question'", soft_wrap=True
        )
        await until_stopped(console)


@asynccontextmanager
async def started(
    console: Console, data_dir: Path, *, durable: bool = True, verbose: bool = False, clock: Clock | None = None
) -> AsyncIterator[Address]:
    """Run everything for the block, and tell what starts and that it stopped. Logs go to the data directory."""
    clock = clock or SystemClock()
    began = clock.monotonic()
    with _log_into(None if verbose else data_dir):
        spinner = console.status("starting…")

        def starting(what: str) -> None:
            if console.is_terminal:
                spinner.update(f"starting {what}…")
            else:
                console.print(f"starting {what}")

        if console.is_terminal:
            spinner.start()
        try:
            async with everything(data_dir, durable=durable, starting=starting) as stack:
                spinner.stop()
                took = look.duration(clock.monotonic() - began)
                console.print(Text.assemble(("✓ ", "good"), f"running, after {took}"))
                try:
                    yield stack
                finally:
                    if console.is_terminal:
                        spinner.update("stopping…")
                        spinner.start()
        finally:
            spinner.stop()


async def until_stopped(console: Console) -> None:
    """Wait for Ctrl-C, which cancels us."""
    console.print("Ctrl-C stops it.", style="minor")
    await asyncio.Event().wait()


@contextmanager
def _log_into(data_dir: Path | None) -> Iterator[None]:
    """Send logs to a file, so that they do not run through what people read; None leaves them where they are."""
    if data_dir is None:
        configure_logs("INFO", "console")
        yield
        return
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
    with (data_dir / LOG_NAME).open("a", encoding="utf-8", buffering=1) as log, redirect_stderr(log):
        configure_logs("INFO", "json")
        yield
