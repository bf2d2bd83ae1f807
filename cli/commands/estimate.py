"""What an import would cost, before it runs."""

from __future__ import annotations

import json
from collections import Counter

from rich.console import Console

from cli import look
from cli.client import Api
from services.api.money_schemas import KindView
from shared.model.price import shown

_NUMBERS = [name for name in KindView.model_fields if name != "measured"]


async def run(console: Console, api_address: str, prefix: str, *, as_json: bool) -> None:
    """Ask for the whole prefix, stretch by stretch, and print a table by kind of file."""
    kinds: dict[str, Counter[str]] = {}
    measured: set[str] = set()
    cursor: str | None = None
    async with Api(api_address) as api:
        while True:
            part = await api.estimate(prefix=prefix, cursor=cursor)
            for kind, entry in part.kinds.items():
                kinds.setdefault(kind, Counter()).update({name: getattr(entry, name) for name in _NUMBERS})
                if entry.measured:
                    measured.add(kind)
            cursor = part.next_cursor
            if cursor is None:
                break
    total = sum(kinds.values(), Counter[str]())
    if as_json:
        sums = {kind: {name: found[name] for name in _NUMBERS} for kind, found in kinds.items()}
        together = {name: total[name] for name in _NUMBERS}
        console.print(json.dumps({"kinds": sums, "total": together}, indent=2), markup=False, soft_wrap=True)
        return
    if not kinds:
        console.print("No such objects.", style="minor")
        return
    _show(console, kinds, total, measured)


def _show(console: Console, kinds: dict[str, Counter[str]], total: Counter[str], measured: set[str]) -> None:
    reads = bool(total["pages_most"])
    columns = ("objects", "size", "indexed", "too large", "tokens", "cost", *(("pages", "reading") if reads else ()))
    table = look.table("kind", *columns, "by", right=columns)
    for kind, found in sorted(kinds.items(), key=lambda entry: -entry[1]["tokens"]):
        by = "this index" if kind in measured else "general ratio"
        table.add_row(kind or "other", *_cells(found), *(_reading(found) if reads else ()), by)
    if len(kinds) > 1:
        table.add_row("together", *_cells(total), *(_reading(total) if reads else ()), "", style="heading")
    console.print(table)
    said = "An estimate from sizes: no file was opened. Text that files share is embedded once and costs less."
    if total["too_large"]:
        said += " What is too large is refused, and costs nothing."
    if reads:
        said += " Pages are those that a model reads, at the price under reading, besides the cost."
    if total["pages_most"] > total["pages_least"]:
        said += " How many pages of a PDF file are scans is not known before it is opened: from none to all."
    console.print(said, style="minor")


def _reading(found: Counter[str]) -> tuple[str, str]:
    least, most = found["pages_least"], found["pages_most"]
    cost = [shown(found["reading_micros_least"]), shown(found["reading_micros_most"])]
    return (f"{most:,}", cost[1]) if least == most else (f"{least:,}–{most:,}", "–".join(cost))


def _cells(found: Counter[str]) -> list[str]:
    return [
        f"{found['objects']:,}",
        look.size(found["size_bytes"]),
        f"{found['indexed']:,}",
        f"{found['too_large']:,}",
        f"{found['tokens']:,}",
        shown(found["cost_micros"]),
    ]
