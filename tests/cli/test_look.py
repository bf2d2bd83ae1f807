"""Units, times and names as people read them."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest

from cli import look
from shared.model.job import Stage, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_940, "9.9 kB"), (12_400, "12 kB"),
     (999_600, "1.0 MB"), (3_400_000, "3.4 MB"), (5 * 10**12, "5.0 TB"), (10**16, "10000 TB")],
)  # fmt: skip
def test_sizes(value: int | None, text: str) -> None:
    """Sizes have a unit and two or three digits that matter."""
    assert look.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (-3, "0 ms"), (0.0804, "80 ms"), (0.9999, "1.0 s"), (3.44, "3.4 s"), (9.96, "10 s"), (59.4, "59 s"),
     (59.6, "1 min 00 s"), (303, "5 min 03 s"), (7800, "2 h 10 min"), (273_600, "3 d 4 h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    """Durations have at most two units, and no unit overflows."""
    assert look.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "just now"), (40, "40 s ago"), (300, "5 min ago"), (3 * 3600, "3 h ago"), (3 * 86400, "3 d ago"),
     (30 * 86400, "2025-12-02"), (-300, "in 5 min")],
)  # fmt: skip
def test_moments(seconds: int, text: str) -> None:
    """Moments are relative as long as that says more than a date."""
    assert look.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_names_are_cut_in_their_middle() -> None:
    """A long name keeps its start and, longer, its end."""
    assert look.shortened("short.pdf", 20) == "short.pdf"
    cut = look.shortened("a-very-long-folder/and-a-file-name.pdf", 20)
    assert len(cut) == 20
    assert cut.startswith("a-very")
    assert cut.endswith("name.pdf")


@pytest.mark.parametrize("status", list(Status))
def test_the_road_is_always_as_long(status: Status) -> None:
    """Whatever the state, bars of one table end below each other."""
    stage = {Status.COMPLETED: Stage.COMPLETED, Status.FAILED: Stage.FAILED}.get(status, Stage.EMBEDDING)
    assert look.road(status, stage).cell_len == 15


def test_no_terminal_no_escape_sequences() -> None:
    """What goes into a file or a pipe is plain text."""
    out = StringIO()
    look.console(out).print(look.status(Status.FAILED), look.road(Status.PROCESSING, Stage.STORING))
    assert "\x1b" not in out.getvalue()
