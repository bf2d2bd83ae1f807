"""Counts that an operator looks at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli import look
from cli.client import Api
from cli.commands.recover import done_in
from services.api.schemas import StatsView
from shared.clock import SystemClock
from shared.model.job import WORKING_STAGES, Status
from shared.model.price import shown

_BAR_CELLS = 24


async def run(console: Console, api_address: str, *, as_json: bool) -> None:
    """Print the counts."""
    async with Api(api_address) as api:
        counts = await api.stats()
    if as_json:
        console.print(counts.model_dump_json(indent=2), markup=False, soft_wrap=True)
        return
    print_stats(console, counts, SystemClock().now())


def print_stats(console: Console, counts: StatsView, now: datetime) -> None:
    """Print counts in groups; groups with nothing in them are left out."""
    due = counts.oldest_due_seconds
    waiting = sum(counts.by_lane_pending.values())
    lanes = ", ".join(f"{number:,} {lane}" for lane, number in sorted(counts.by_lane_pending.items()) if number)
    console.print(
        look.facts(
            [
                ("index", f"{look.count(counts.documents, 'document')}, {look.count(counts.chunks, 'passage')}"),
                ("waiting", f"{look.count(waiting, 'job')}" + (f" ({lanes})" if lanes else "")),
                ("oldest due", "none is due" if due is None else f"for {look.duration(due)}"),
                ("dead letters", _warned(counts.dead_letters_open)),
                ("models", _models(counts.models)),
                ("last recover run", _last_run(counts.last_recover_run, now)),
            ]
        )
    )
    statuses = [(status.value, counts.by_status.get(status.value, 0), status.value) for status in Status]
    _section(console, "jobs by status", [entry for entry in statuses if entry[1]])
    stages = [(stage.value, counts.by_stage.get(stage.value, 0), "processing") for stage in WORKING_STAGES]
    _section(console, "at work in", [entry for entry in stages if entry[1]])
    put_off = sorted(counts.by_deferred_reason.items())
    _section(console, "put off for", [(reason, number, "pending") for reason, number in put_off if number])
    by_size = sorted(counts.by_error_code.items(), key=lambda entry: (-entry[1], entry[0]))
    _section(console, "failed with", [(code, number, "failed") for code, number in by_size if number])


def _section(console: Console, title: str, entries: Iterable[tuple[str, int, str]]) -> None:
    rows = list(entries)
    if not rows:
        return
    largest = max(number for _, number, _ in rows)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(min_width=16, no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    for name, number, style in rows:
        cells = max(1, round(_BAR_CELLS * number / largest))
        grid.add_row(Text(name, style=style), f"{number:,}", Text("━" * cells, style=style))
    console.print()
    console.print(title, style="key")
    console.print(grid)


def _warned(number: int) -> Text:
    return Text(f"{number:,} open", style="failed") if number else Text("none open")


def _models(used: Mapping[str, int]) -> str:
    tokens = f"{used.get('tokens_used', 0):,} tokens used, {used.get('tokens_saved', 0):,} saved"
    cost, saved = used.get("cost_micros", 0), used.get("cost_saved_micros", 0)
    return tokens + (f"; cost {shown(cost)}, saved {shown(saved)}" if cost or saved else "")


def _last_run(summary: Mapping[str, Any] | None, now: datetime) -> str:
    if summary is None:
        return "none yet"
    started = summary.get("started_at")
    when = look.ago(datetime.fromisoformat(started), now) if isinstance(started, str) else "at some time"
    done = "; ".join(f"{duty}: {words}" for duty, words in done_in(summary)) or "nothing to do"
    errors = ", ".join(f"{duty} failed" for duty in summary.get("errors", {}))
    return f"{when}, {done}" + (f"; {errors}" if errors else "")
