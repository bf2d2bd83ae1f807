"""What a deliberate mistake is."""

from __future__ import annotations

from dataclasses import dataclass

REFUSED = "refused"
"""Not a check: the plan itself ends with an error."""


@dataclass(frozen=True)
class Mutation:
    """One mistake, and which check finds it in which variant."""

    file: str
    old: str
    new: str
    found_by: str
    variant: str = "default"
