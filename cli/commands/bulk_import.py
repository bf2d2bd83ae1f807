"""Asking for work about many files, and watching how far it is."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli import look
from cli.client import Api
from services.api.schemas import JobView
from shared.clock import Clock, SystemClock
from shared.model.job import TERMINAL, Status

POLL_SECONDS = 0.5


async def run(
    console: Console,
    api_address: str,
    order: Mapping[str, str | int | None],
    *,
    watch: bool,
    clock: Clock | None = None,
) -> int:
    """Ask, and stay to the end if that is wished; return the exit code: 1 when it did not end well."""
    async with Api(api_address) as api:
        job = await api.order(**order)
        if not watch:
            console.print(Text.assemble(("✓ ", "good"), f"job {job.id}: headrace jobs watch {str(job.id)[-8:]}"))
            return 0
        job = await _ended(console, api, job, clock or SystemClock())
    if job.status is not Status.COMPLETED:
        reason = f"{job.error.code}: {job.error.message or ''}" if job.error is not None else ""
        console.print(
            Text.assemble(("✗ ", "bad"), f"{job.job_type.value} {job.status.value}  {reason}"), soft_wrap=True
        )
        return 1
    console.print(Text.assemble(("✓ ", "good"), f"{job.job_type.value} completed"))
    console.print(look.facts(_rows(job.result or {})))
    return 0


async def _ended(console: Console, api: Api, job: JobView, clock: Clock) -> JobView:
    """Show progress until the job has ended. How many objects there are is known at the end: until then, those seen."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(job.job_type.value, total=None)
        while job.status not in TERMINAL:
            await clock.sleep(POLL_SECONDS)
            job = await api.job(job.id)
            bar.update(task, completed=job.progress.done, total=job.progress.total)
    return job


def _rows(result: Mapping[str, object]) -> list[tuple[str, Text | str]]:
    rows: list[tuple[str, Text | str]] = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            said = ", ".join(f"{count:,} {what}" for what, count in value.items())
        elif isinstance(value, list):
            said = ", ".join(f"{one['name']} ({one['code']})" for one in value if isinstance(one, Mapping))
        else:
            said = f"{value:,}" if isinstance(value, int) else str(value)
        if said:
            rows.append((name.replace("_", " "), said))
    return rows
