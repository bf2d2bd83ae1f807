"""Jobs as they move: one by its event stream, the newest ones by asking again and again."""

from __future__ import annotations

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli import look
from cli.client import Api
from cli.commands.jobs import name_of, resolve, table_of
from services.api.schemas import JobView
from shared.clock import Clock, SystemClock
from shared.model.job import TERMINAL, Status

POLL_SECONDS = 0.5
_SHOWN = 20


async def one(console: Console, api_address: str, text: str) -> int:
    """Print each move of a job until it ends; return 0 when it was completed."""
    async with Api(api_address) as api:
        job = await api.job(await resolve(api, text))
        console.print(Text.assemble((name_of(job), "heading"), ("  " + str(job.id), "minor")), soft_wrap=True)
        last: Status = job.status
        async for move in api.moves(job.id):
            last = move.status
            word = move.status.value if move.status in TERMINAL else move.stage.value
            took = "" if move.duration_ms is None else look.duration(move.duration_ms / 1000)
            again = f"attempt {move.attempt}" if move.attempt > 1 else ""
            at = move.occurred_at.strftime("%H:%M:%S")
            console.print(
                Text.assemble(
                    (at, "minor"), "  ", (f"{word:<11}", move.status.value), f"  {took:>9}  ", (again, "minor")
                )
            )
        if last is Status.FAILED:
            ended = await api.job(job.id)
            if ended.error is not None:
                console.print(Text(f"{ended.error.code}: {ended.error.message or ''}", style="failed"), soft_wrap=True)
    return 0 if last is Status.COMPLETED else 1


async def newest(console: Console, api_address: str, *, until_idle: bool, clock: Clock | None = None) -> None:
    """Show the newest jobs until Ctrl-C, or until none is waiting or running."""
    clock = clock or SystemClock()
    said: dict[str, str] = {}
    async with Api(api_address) as api:
        with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else _Nothing() as live:
            while True:
                jobs = (await api.jobs(limit=_SHOWN)).jobs
                if live is not None:
                    live.update(_screen(jobs, clock, console.width), refresh=True)
                else:
                    _say_changes(console, jobs, said)
                if until_idle and all(job.status in TERMINAL for job in jobs) and await _is_idle(api):
                    return
                await clock.sleep(POLL_SECONDS)


async def _is_idle(api: Api) -> bool:
    """Say whether no job is waiting or running, however old it is."""
    for status in Status:
        if status not in TERMINAL and (await api.jobs(status=status.value, limit=1)).jobs:
            return False
    return True


class _Nothing:
    """Stands where a live display would be."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _screen(jobs: list[JobView], clock: Clock, width: int) -> Table | Text:
    if not jobs:
        return Text("No jobs yet; put a file into the bucket: ./headrace upload FILE", style="minor")
    return table_of(jobs, clock.now(), width)


def _say_changes(console: Console, jobs: list[JobView], said: dict[str, str]) -> None:
    for job in reversed(jobs):
        word = job.processing_stage.value if job.status is Status.PROCESSING else job.status.value
        if said.get(str(job.id)) != word:
            said[str(job.id)] = word
            console.print(Text(f"{job.id}  {word:<11}  {name_of(job)}"), soft_wrap=True)
