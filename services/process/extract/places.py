"""Places as they can be kept: a file may call its headings, keys, sheets and attachments anything, at any length.

A place is stored with each passage that stands there, so what is cut here would be paid for many times.
"""

from __future__ import annotations

import dataclasses

from shared.model.locator import Locator
from shared.model.text import storable

MAX_NAME_CHARACTERS = 300
MAX_NAMES = 16
"""Of a longer path the outermost and the innermost names are kept: those by which people know the place."""

_LEFT_OUT = "…"


def bounded(locator: Locator) -> Locator:
    """Return the place with names that are storable and short, and with paths of not too many of them."""
    return dataclasses.replace(
        locator,
        sheet=None if locator.sheet is None else _name(locator.sheet),
        heading_path=_path(locator.heading_path),
        attachment=_path(locator.attachment),
    )


def size_bytes(locator: Locator) -> int:
    """Return how much the names of a place take (UTF-8)."""
    names = (locator.sheet or "", *(locator.heading_path or ()), *(locator.attachment or ()))
    return sum(len(name.encode()) for name in names)


def _path(names: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if len(names) > MAX_NAMES:
        outer = MAX_NAMES // 2
        names = (*names[:outer], _LEFT_OUT, *names[outer + 1 - MAX_NAMES :])
    return tuple(map(_name, names))


def _name(name: str) -> str:
    if len(name) > MAX_NAME_CHARACTERS:
        name = name[: MAX_NAME_CHARACTERS - 1] + _LEFT_OUT
    return storable(name)
