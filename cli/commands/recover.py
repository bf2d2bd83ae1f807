"""A recover run now, and what it did."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import post_json

RUN_SECONDS = 600.0


async def run(console: Console, recover_address: str, *, as_json: bool) -> None:
    """Ask for a run and print its summary."""
    with console.status("recovering…") if console.is_terminal else nullcontext():
        summary = await post_json(f"{recover_address.rstrip('/')}/api/v1/cron/jobs", seconds=RUN_SECONDS)
    if as_json:
        console.print(json.dumps(summary, indent=2), markup=False, soft_wrap=True)
        return
    counts = list(_counts(summary))
    console.print(Text.assemble(("✓ ", "good"), "recovered" if any(value for _, value in counts) else "nothing to do"))
    if counts:
        console.print(look.facts([(name, str(value)) for name, value in counts]))


def _counts(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the numbers and words of a summary, nested ones with their path."""
    for name, value in summary.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _counts(value, f"{label}: ")
        elif isinstance(value, int | float | str):
            yield label, value
