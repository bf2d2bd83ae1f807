"""The folder of a process: its own while it lives, and nobody's afterwards."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from services.process.workspace import workspace

ROOT = Path(__file__).resolve().parents[3]

KILLED = """
import os, signal, sys
from services.process.workspace import workspace
with workspace(sys.argv[1]) as folder:
    (folder / "object").write_text("somebody's file")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_is_removed_with_its_contents(tmp_path: Path) -> None:
    """An orderly end leaves nothing."""
    with workspace(str(tmp_path)) as folder:
        (folder / "object").write_text("somebody's file")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """After kill -9 the files are there until the next process starts, and then no more."""
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False, env={"PYTHONPATH": str(ROOT)})
    (left,) = tmp_path.iterdir()
    assert (left / "object").exists()
    with workspace(str(tmp_path)) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_another_living_process_keeps_its_folder(tmp_path: Path) -> None:
    """Two workers on one machine do not take each other's files away."""
    with workspace(str(tmp_path)) as one:
        (one / "object").write_text("somebody's file")
        with workspace(str(tmp_path)) as other:
            assert other != one
        assert (one / "object").exists()


def test_links_and_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    """In a place that is shared by all users, a link with our name is not followed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    parent = tmp_path / "shared"
    parent.mkdir()
    (parent / "headrace-process-link").symlink_to(precious)
    with workspace(str(parent)):
        assert precious.exists()
    assert (parent / "headrace-process-link").is_symlink()
