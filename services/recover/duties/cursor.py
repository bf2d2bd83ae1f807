"""Where a long duty stopped, from one run to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Cursor:
    """`start` is where the run before stopped (None: at the beginning), `stopped` is where this one did."""

    start: Mapping[str, Any] | None = None
    stopped: Mapping[str, Any] | None = None
