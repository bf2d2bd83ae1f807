"""How everything looks: colours, signs, units and times, the same in every command.

Colour says state and nothing else: cyan moves, green is done, red failed, yellow was stopped, dim waits or is minor.
Without a terminal there is no colour and no cursor movement, and lines are as wide as what they say.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from shared.model.job import Stage, Status

PLAIN_WIDTH = 160

THEME = Theme(
    {
        "pending": "dim",
        "processing": "cyan",
        "completed": "green",
        "failed": "red",
        "cancelled": "yellow",
        "minor": "dim",
        "heading": "bold",
        "key": "dim",
        "address": "cyan",
        "error": "bold red",
        "good": "green",
        "bad": "red",
        "track": "bright_black",
    }
)

_SIGNS = {
    Status.PENDING: "·",
    Status.PROCESSING: "▸",
    Status.COMPLETED: "✓",
    Status.FAILED: "✗",
    Status.CANCELLED: "–",
}

ROAD = (Stage.PENDING, Stage.DOWNLOADING, Stage.PROCESSING, Stage.EMBEDDING, Stage.STORING, Stage.COMPLETED)
_CELLS_PER_STAGE = 3


def console(file: TextIO | None = None, *, width: int | None = None) -> Console:
    """Return the console to print on: stdout, unless a file is given."""
    made = Console(file=file or sys.stdout, theme=THEME, highlight=False, width=width, emoji=False)
    if not made.is_terminal and width is None:
        made.width = PLAIN_WIDTH
    return made


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """Return an empty table without lines; columns named in `right` are aligned to the right."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="minor")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=True, overflow="ellipsis")
    return made


def facts(rows: list[tuple[str, Text | str]]) -> Table:
    """Return names and values below each other."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="key", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(name, value)
    return made


def status(value: Status) -> Text:
    """Return a status with its sign and colour."""
    return Text(f"{_SIGNS[value]} {value.value}", style=value.value)


def road(state: Status, stage: Stage) -> Text:
    """Return how far along its stages a job is, as a bar."""
    if state is Status.COMPLETED:
        reached = len(ROAD) - 1
    elif state is Status.FAILED:
        reached = 0
    else:
        reached = ROAD.index(stage)
    total = len(ROAD) - 1
    bar = Text("━" * (reached * _CELLS_PER_STAGE), style=state.value)
    return bar.append(
        "━" * ((total - reached) * _CELLS_PER_STAGE), style="failed" if state is Status.FAILED else "track"
    )


def size(value_bytes: int | None) -> str:
    """`812 B`, `3.4 kB`, `12 MB`: decimal units, two or three digits that matter."""
    if value_bytes is None:
        return "–"
    if value_bytes < 1000:
        return f"{value_bytes} B"
    amount = float(value_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    return f"{amount:.0f} TB"


def duration(seconds: float | None) -> str:
    """`80 ms`, `3.4 s`, `42 s`, `5 min 03 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ago(moment: datetime | None, now: datetime) -> str:
    """`just now`, `40 s ago`, `5 min ago`, `3 h ago`, `2 d ago`, then the date; `in 5 min` for what is to come."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 2:
        return "just now"
    form = "{} ago" if seconds > 0 else "in {}"
    seconds = abs(seconds)
    for limit, unit_seconds, unit in (
        (90, 1, "s"),
        (5400, 60, "min"),
        (36 * 3600, 3600, "h"),
        (14 * 86400, 86400, "d"),
    ):
        if seconds < limit:
            return form.format(f"{round(seconds / unit_seconds)} {unit}")
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 file`, `3 files`, `12,000 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_KINDS = {
    "application/pdf": "PDF",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "DOCX",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "PPTX",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "XLSX",
    "text/markdown": "Markdown",
    "text/plain": "text",
    "text/html": "HTML",
    "image/jpeg": "JPEG",
    "audio/mpeg": "MP3",
}


def kind(media_type: str | None, name: str) -> str:
    """Return what people call a type; before it is known, what the name promises."""
    if media_type is None:
        suffix = name.rpartition(".")[2] if "." in name else ""
        return suffix.upper()[:8] or "–"
    return _KINDS.get(media_type) or media_type.rpartition("/")[2].removeprefix("x-").upper()[:10]


def shortened(name: str, cells: int) -> str:
    """Return a name that fits, cut in its middle: both ends tell files apart."""
    if len(name) <= cells:
        return name
    head = max(1, (cells - 1) // 3)
    return f"{name[:head]}…{name[len(name) - (cells - head - 1) :]}"
