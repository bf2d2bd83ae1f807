"""Files on their way, on a terminal and without one."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from cli import look
from cli.board import Board, Row
from services.api.schemas import JobView
from shared.model.job import Stage, Status
from tests.plugins.clock import ManualClock
from tests.services.api.fakes import NOON, a_job


def rows() -> list[Row]:
    """Return files in all states that can be seen."""
    failed = a_job("d/broken.pdf", status=Status.FAILED, stage=Stage.FAILED, error_code="CORRUPT")
    working = a_job("d/manual.pdf", status=Status.PROCESSING, stage=Stage.EMBEDDING, progress_done=3, progress_total=12)
    done = a_job("d/notes.md", status=Status.COMPLETED, stage=Stage.COMPLETED, completed_at=NOON)
    return [
        *(Row(job.name or "", 1, NOON, JobView.of(job)) for job in (failed, working, done)),
        Row("d/new.txt", 1, NOON),
        Row("d/same.txt", 1, NOON, unchanged=True),
    ]


def test_without_a_terminal_each_change_is_one_line() -> None:
    """Nothing is said twice, and nothing moves the cursor."""
    out = StringIO()
    with Board(look.console(out), ManualClock(NOON), rows()) as board:
        board.update()
        board.update()
    lines = out.getvalue().splitlines()
    assert [re.split(r"  +", line)[1] for line in lines] == [
        "CORRUPT",
        "embedding 3/12",
        "completed",
        "unchanged",
    ]
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120, 200])
def test_it_fits_every_terminal(width: int) -> None:
    """No line is wider than the terminal, down to very narrow ones."""
    out = StringIO()
    console = look.console(out, width=width)
    console.print(Board(console, ManualClock(NOON), rows())._render())
    assert max(len(line) for line in out.getvalue().splitlines()) <= width


def test_many_files_show_the_ones_that_move() -> None:
    """With more files than fit, those that have ended give way, and the rest is counted."""
    done = rows()[2]
    many = [Row(f"d/{number}", 1, NOON, done.job) for number in range(100)] + [Row("d/late", 1, NOON)]
    out = StringIO()
    console = look.console(out, width=80)
    console.print(Board(console, ManualClock(NOON), many)._render())
    assert "d/late" in out.getvalue()
    assert "81 more files" in out.getvalue()
    assert "100 of 101 files searchable" in out.getvalue()


def test_on_a_terminal_it_is_live_and_leaves_the_last_state() -> None:
    """The cursor is hidden while it lives and shown again at the end."""
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=80, theme=look.THEME)
    with Board(console, ManualClock(NOON), rows()) as board:
        board.update()
    assert out.getvalue().rstrip().endswith("\x1b[?25h")
