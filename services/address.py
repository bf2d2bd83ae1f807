"""Where a running stack can be reached: one small file in its data directory, there for as long as it runs.

Holds addresses and a process id, no secrets. Other processes of the same user read it to find the stack.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

FILE_NAME = "headrace.json"


class Address(BaseModel):
    """The addresses of one running stack."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    pid: int
    api: str
    recover: str
    storage: str
    project: str
    bucket: str
    database: str | None = None
    """Of the embedded Postgres, which asks for no password; another one's address is nobody's but the settings'."""


@contextlib.contextmanager
def published(address: Address, data_dir: Path) -> Iterator[None]:
    """Keep the file there for the length of the block; readers see all of it or nothing."""
    path = data_dir / FILE_NAME
    fresh = path.with_suffix(".new")
    fresh.write_text(address.model_dump_json(indent=2) + "\n", encoding="utf-8")
    fresh.replace(path)
    try:
        yield
    finally:
        found = _read(path)
        if found is not None and found.pid == address.pid:
            path.unlink(missing_ok=True)


def find(data_dir: Path) -> Address | None:
    """Return where the stack on this directory is; None when none runs, also when one left its file behind."""
    address = _read(data_dir / FILE_NAME)
    return address if address is not None and _lives(address.pid) else None


def _read(path: Path) -> Address | None:
    try:
        return Address.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
