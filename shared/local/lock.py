"""One owner for each data directory, held by the kernel: gone with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import ConfigurationError


class DirectoryLock:
    """A held lock; its file tells other processes who holds it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, text: str) -> None:
        """Replace what others read about the holder; the first line stays the process id."""
        content = f"{os.getpid()}\n{text}".encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)


@contextmanager
def hold(path: Path, what: str) -> Iterator[DirectoryLock]:
    """Hold the lock file `path` for the length of the block; `what` names the directory's use in the error.

    Raises:
        ConfigurationError: another process holds it; the message names that process and what to do.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        holder = _acquire(descriptor)
        if holder is not None:
            raise ConfigurationError(
                f"{what} in {path.parent} is in use by process {holder}; "
                f"stop it (kill {holder}) or choose another data directory"
            )
        lock = DirectoryLock(descriptor)
        lock.write("")
        yield lock
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _acquire(descriptor: int) -> str | None:
    """Take the lock and return None, or return the process id of its holder."""
    for _ in range(50):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").split("\n")[0]
            if holder:
                return holder
            time.sleep(0.01)  # no name yet: it is just starting, or somebody asked `read_held` this very moment
        else:
            return None
    return "unknown"


def read_held(path: Path) -> str | None:
    """Return what the holder wrote (without the process id), or None when nobody holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(descriptor, 1 << 20, 0).decode(errors="replace").partition("\n")[2]
    finally:
        os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Say whether any process holds the lock."""
    return read_held(path) is not None
