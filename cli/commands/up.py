"""The whole stack on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stderr
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from cli import look
from services.address import Address
from services.laptop import everything
from shared.clock import Clock, SystemClock
from shared.settings import environment
from shared.telemetry.logs import configure_logs

LOG_NAME = "headrace.log"


async def run(console: Console, data_dir: Path, *, verbose: bool) -> None:
    """Start, say where everything is, and stay."""
    database_url = environment().get("DATABASE_URL")  # one that is given is used; the demo leaves it alone
    async with started(console, data_dir, database_url=database_url, verbose=verbose) as stack:
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
    console: Console,
    data_dir: Path,
    *,
    durable: bool = True,
    database_url: str | None = None,
    verbose: bool = False,
    clock: Clock | None = None,
) -> AsyncIterator[Address]:
    """Run everything for the block, and tell what starts and that it stopped. Logs go to the data directory."""
    clock = clock or SystemClock()
    began = clock.monotonic()
    with _log_into(None if verbose else data_dir), _telling(console, quiet=verbose) as tell:
        async with everything(
            data_dir, durable=durable, database_url=database_url, starting=lambda what: tell(f"starting {what}")
        ) as stack:
            tell(None)
            took = look.duration(clock.monotonic() - began)
            console.print(Text.assemble(("✓ ", "good"), f"running, after {took}"))
            try:
                yield stack
            finally:
                tell("stopping")
        tell(None)
        console.print(Text.assemble(("✓ ", "good"), "stopped"))


async def until_stopped(console: Console) -> None:
    """Return at Ctrl-C or SIGTERM, which are the way to end this; a second one does not wait for an orderly stop."""
    stop = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None

    def end() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, end)
    console.print("Ctrl-C stops it.", style="minor")
    await stop.wait()


@contextmanager
def _telling(console: Console, *, quiet: bool) -> Iterator[Callable[[str | None], None]]:
    """Lend what tells people what is going on: a spinner on a terminal, a line elsewhere; None means: it is done."""
    if not console.is_terminal or quiet:
        yield lambda what: console.print(what) if what is not None else None
        return
    spinner = Spinner("dots", style="processing")
    with Live(console=console, transient=True, redirect_stderr=False, refresh_per_second=12) as live:

        def tell(what: str | None) -> None:
            spinner.update(text=f"{what}…")
            live.update(spinner if what is not None else "")
            if what is None:
                live.stop()
            elif not live.is_started:
                live.start()

        yield tell


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
