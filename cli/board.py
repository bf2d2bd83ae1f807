"""Files on their way through the stages: as a live table on a terminal, as one line per change elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli import look
from services.api.schemas import JobView
from shared.clock import Clock
from shared.model.job import TERMINAL, Stage, Status

_ROWS_MAX = 20
_BAR_NEEDS_COLUMNS = 72
_KIND_NEEDS_COLUMNS = 52
_NAME_CELLS = 34
_WAITING = "waiting"


@dataclass(slots=True)
class Row:
    """One file. `job` is None until the stack has decided on it; `unchanged`: there is nothing to do for it."""

    name: str
    size_bytes: int | None
    began_at: datetime
    job: JobView | None = None
    unchanged: bool = False
    said: str = field(default="", repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.unchanged or (self.job is not None and self.job.status in TERMINAL)

    @property
    def failed(self) -> bool:
        """Whether it ended without being searchable."""
        return self.job is not None and self.job.status in {Status.FAILED, Status.CANCELLED}


class Board:
    """Shows rows for the length of its block; `update` tells it that something may have changed."""

    def __init__(self, console: Console, clock: Clock, rows: Iterable[Row] = ()) -> None:
        self.rows = list(rows)
        self._console = console
        self._clock = clock
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                refresh_per_second=8,
                vertical_overflow="crop",
                redirect_stderr=False,  # logs have their own way, which is not through this table
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.update(self._render(), refresh=True)
            self._live.stop()
            self._live = None

    def update(self) -> None:
        """Show what changed."""
        if self._live is not None:
            return  # it looks by itself, eight times a second
        width = min(_NAME_CELLS, max((len(row.name) for row in self.rows), default=0))
        for row in self.rows:
            now_said = _words(row)
            if now_said not in (row.said, _WAITING):
                row.said = now_said
                took = f"  {self._took(row)}" if row.ended else ""
                self._console.print(
                    Text(f"{look.shortened(row.name, width):<{width}}  {now_said}{took}"), soft_wrap=True
                )

    def _render(self) -> Group:
        width = self._console.width
        shown = sorted(self.rows, key=lambda row: row.ended)[:_ROWS_MAX] if len(self.rows) > _ROWS_MAX else self.rows
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        if width >= _KIND_NEEDS_COLUMNS:
            table.add_column(style="minor", no_wrap=True, min_width=8)
        if width >= _BAR_NEEDS_COLUMNS:
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", min_width=15 if width >= _BAR_NEEDS_COLUMNS else None)
        table.add_column(justify="right", style="minor", no_wrap=True, min_width=6)
        name_cells = max(12, min(_NAME_CELLS, width - 56 if width >= _BAR_NEEDS_COLUMNS else width // 3))
        for row in shown:
            state, stage = (row.job.status, row.job.processing_stage) if row.job else (Status.PENDING, Stage.PENDING)
            cells: list[Text | str] = [look.shortened(row.name, name_cells)]
            if width >= _KIND_NEEDS_COLUMNS:
                cells.append(look.kind(row.job.media_type if row.job else None, row.name))
            if width >= _BAR_NEEDS_COLUMNS:
                cells.append(look.road(Status.COMPLETED, Stage.COMPLETED) if row.unchanged else look.road(state, stage))
            cells.append(Text(_words(row), style="completed" if row.unchanged else state.value))
            cells.append(self._took(row))
            table.add_row(*cells)
        hidden = len(self.rows) - len(shown)
        more = [Text(f"… and {look.count(hidden, 'more file')}", style="minor")] if hidden else []
        return Group(table, *more, self._summary())

    def _summary(self) -> Text:
        done = sum(row.ended and not row.failed for row in self.rows)
        failed = sum(row.failed for row in self.rows)
        text = Text(f"{done} of {look.count(len(self.rows), 'file')} searchable", style="minor")
        return text.append(f", {failed} failed", style="failed") if failed else text

    def _took(self, row: Row) -> str:
        if row.unchanged:
            return ""
        until = row.job.completed_at if row.job and row.job.completed_at and row.ended else self._clock.now()
        since = row.job.created_at if row.job else row.began_at
        seconds = (until - since).total_seconds()
        return look.duration(seconds) if row.ended or seconds >= 1 else f"{max(0.0, seconds):.1f} s"


def _words(row: Row) -> str:
    """Return what is happening to a file, in few words."""
    job = row.job
    if row.unchanged:
        return "unchanged"
    if job is None:
        return _WAITING
    match job.status:
        case Status.FAILED:
            return job.error.code if job.error else "failed"
        case Status.PENDING if job.error is not None:
            return f"trying again after {job.error.code}"
        case Status.PENDING if job.deferred_reason is not None:
            return f"deferred: {job.deferred_reason}"
        case Status.PROCESSING:
            progress = job.progress
            counted = f" {progress.done}/{progress.total}" if progress.total else ""
            return f"{job.processing_stage.value}{counted}"
    return job.status.value
