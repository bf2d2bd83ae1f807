"""A question, and the passages that answer it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cli.client import Api
from services.api.schemas import Hit

_PASSAGE_CHARACTERS = 360


async def run(
    console: Console,
    api_address: str,
    query: str,
    *,
    limit: int,
    prefix: str | None,
    organization: str | None,
    as_json: bool,
) -> bool:
    """Print the passages; return whether there are any."""
    async with Api(api_address, organization=organization) as api:
        answer = await api.search(query, limit=limit, prefix=prefix)
    if as_json:
        console.print(answer.model_dump_json(indent=2), markup=False, soft_wrap=True)
    elif answer.hits:
        print_hits(console, answer.hits, query)
    else:
        console.print("Nothing found. `headrace stats` says how much is indexed.", style="minor")
    return bool(answer.hits)


def print_hits(console: Console, hits: Sequence[Hit], query: str) -> None:
    """Print passages with file, place and score, best first."""
    for rank, hit in enumerate(hits, start=1):
        console.print(_heading(rank, hit))
        console.print(Padding(_passage(hit.text, query), (0, 0, 0, 3)))
        if rank < len(hits):
            console.print()


def _heading(rank: int, hit: Hit) -> Table:
    line = Table.grid(expand=True)
    line.add_column(overflow="ellipsis", no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    where = Text.assemble((f"{rank:>2} ", "minor"), (hit.name, "heading"), "  ", (hit.label, "address"))
    line.add_row(where, Text(f" score {hit.score:.3f}", style="minor"))
    return line


def _passage(text: str, query: str) -> Text:
    """Return the part of a passage around the words that were asked for, with these words marked."""
    flat = " ".join(text.split())
    words = [re.escape(word) for word in set(re.findall(r"\w{4,}", query))]
    pattern = re.compile(rf"\b(?:{'|'.join(words)})\w*", re.IGNORECASE) if words else None
    first = pattern.search(flat) if pattern else None
    start = (
        0 if first is None or first.end() < _PASSAGE_CHARACTERS else max(0, first.start() - _PASSAGE_CHARACTERS // 3)
    )
    end = start + _PASSAGE_CHARACTERS
    if start:
        start = flat.find(" ", start) + 1
    if end < len(flat):
        end = flat.rfind(" ", start, end)
    shown = Text(("… " if start else "") + flat[start:end] + (" …" if end < len(flat) else ""))
    if pattern is not None:
        shown.highlight_regex(pattern, "bold")
    return shown
