"""A recover run now, and what it did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import post_json

RUN_SECONDS = 600.0


async def run(console: Console, recover_address: str, *, as_json: bool) -> int:
    """Ask for a run that compares bucket and index too, and print its summary; return 1 when a duty failed."""
    with console.status("recovering…") if console.is_terminal else nullcontext():
        summary = await post_json(f"{recover_address.rstrip('/')}/api/v1/cron/jobs?reconcile=1", seconds=RUN_SECONDS)
    if as_json:
        console.print(json.dumps(summary, indent=2), markup=False, soft_wrap=True)
    else:
        _print(console, summary)
    return 0 if summary.get("ok") else 1


def done_in(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a run did, duty by duty; duties with nothing to do are left out."""
    found: list[tuple[str, str]] = []
    for duty, counts in summary.get("duties", {}).items():
        words = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in counts.items() if number)
        if words:
            found.append((duty.replace("_", " "), words))
    return found


def _print(console: Console, summary: Mapping[str, Any]) -> None:
    done = done_in(summary)
    took = look.duration(summary.get("duration_ms", 0) / 1000)
    errors: Mapping[str, str] = summary.get("errors", {})
    if errors:
        console.print(Text.assemble(("✗ ", "bad"), f"not everything could be done, in {took}"))
    else:
        console.print(Text.assemble(("✓ ", "good"), f"done, in {took}"))
    rows: list[tuple[str, Text | str]] = [*done, *((duty, Text(code, style="failed")) for duty, code in errors.items())]
    if rows:
        console.print(look.facts(rows))
