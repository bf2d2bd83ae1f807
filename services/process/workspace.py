"""One folder for all temporary files of this process; what a killed process left behind is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = "headrace-process-"


@contextmanager
def workspace(parent: str | None = None) -> Iterator[Path]:
    """Give an empty folder below `parent` (the system's place by default), and remove it with all its contents.

    Kill -9 removes nothing, and the files are copies of what people uploaded. Each process therefore holds a lock on
    its folder, which ends with it in any case, and each start removes the folders that nobody holds. Blocks: call it
    before there is work.
    """
    root = Path(parent or tempfile.gettempdir())
    for left in root.glob(f"{_PREFIX}*"):
        _remove_if_abandoned(left)
    folder, lock = _make(root)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(root: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        with contextlib.suppress(OSError):  # another start saw the folder before it was locked, and took it away
            lock = _open(folder)
            if _try_lock(lock) and folder.exists():
                return folder, lock
            os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    try:
        lock = _open(folder)
    except OSError:
        return  # gone meanwhile, a link, or another user's
    try:
        if os.fstat(lock).st_uid == os.geteuid() and _try_lock(lock):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
