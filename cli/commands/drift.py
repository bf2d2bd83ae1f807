"""Where bucket and index differ, and repair of it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import nullcontext

from rich.console import Console
from rich.text import Text

from cli import look
from cli.client import Api
from services.api.schemas import DriftView
from shared.worker.drift import DriftClass

NO_DRIFT, DRIFT, REPAIRED = 0, 1, 3
"""Exit codes. 1 also when something is left after a repair: an object that failed, or could not be decided on."""

_MEANINGS = {
    DriftClass.MISSING: "in the bucket, not in the index",
    DriftClass.STALE: "changed in the bucket",
    DriftClass.ORPHAN: "in the index, gone from the bucket",
    DriftClass.FAILED: "could not be indexed: headrace jobs list --status failed",
}


async def run(console: Console, api_address: str, *, repair: bool, as_json: bool, examples: int) -> int:
    """Compare the whole bucket, page by page; print what differs and return the exit code."""
    whole: DriftView | None = None
    async with Api(api_address) as api:
        with console.status("comparing…") if console.is_terminal and not as_json else nullcontext() as status:
            while whole is None or whole.next_cursor is not None:
                page = await api.drift(
                    repair=repair, cursor=None if whole is None else whole.next_cursor, examples=examples
                )
                whole = page if whole is None else _joined(whole, page, examples)
                if status is not None:
                    status.update(f"comparing… {whole.compared:,}")
    if as_json:
        console.print(json.dumps(whole.model_dump(mode="json"), indent=2), markup=False, soft_wrap=True)
    else:
        _print(console, whole, repair=repair)
    return exit_code(whole, repair=repair)


def exit_code(report: DriftView, *, repair: bool) -> int:
    """Return 0 when nothing differs, 3 when all that differed was repaired, else 1."""
    found = sum(report.found.values())
    if not found:
        return NO_DRIFT
    left = report.errors + report.found.get(DriftClass.FAILED, 0)
    return REPAIRED if repair and not left else DRIFT


def _joined(one: DriftView, two: DriftView, examples: int) -> DriftView:
    named = {
        key: (one.examples.get(key, []) + two.examples.get(key, []))[:examples]
        for key in one.examples.keys() | two.examples.keys()
    }
    return DriftView(
        bucket=one.bucket,
        compared=one.compared + two.compared,
        found=dict(Counter(one.found) + Counter(two.found)),
        examples=named,
        repaired=one.repaired + two.repaired,
        settled=one.settled + two.settled,
        errors=one.errors + two.errors,
        next_cursor=two.next_cursor,
    )


def _print(console: Console, report: DriftView, *, repair: bool) -> None:
    compared = look.count(report.compared, "object")
    if not sum(report.found.values()):
        console.print(Text.assemble(("✓ ", "good"), f"bucket and index are in step: {compared} compared"))
        return
    console.print(Text.assemble(("✗ ", "bad"), f"bucket and index differ: {compared} compared"))
    rows: list[tuple[str, Text | str]] = []
    for difference, meaning in _MEANINGS.items():
        if number := report.found.get(difference, 0):
            rows.append((difference.value, f"{number:,}  {meaning}"))
            rows.extend(("", Text(name, style="key")) for name in report.examples.get(difference, []))
    if repair:
        done = f"{report.repaired:,}" + (f", {report.settled:,} were in step by then" if report.settled else "")
        rows.append(("repaired", done))
    if report.errors:
        rows.append(("not repaired", Text(f"{report.errors:,}, tried again in the next hour", style="failed")))
    console.print(look.facts(rows))
    if not repair and set(report.found) - {DriftClass.FAILED}:
        console.print("headrace drift --repair brings them in step.")
