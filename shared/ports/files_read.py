"""The same file under many names is read by a model once: others wait for the passages, and take them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from shared.model.job import Lease


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadBefore:
    """What another job made of the same bytes, and this one has now: its passages, and what it did not have to pay."""

    chunks: int
    tokens: int
    """Of the texts, as their model counts."""
    page_micros: int
    """What the reading of the pages had cost, in millionths."""
    refused_pages: Mapping[str, Sequence[int]]
    """By the code with which the model refused them."""

    def to_checkpoint(self) -> dict[str, Any]:
        """Return where the job is by it: all is extracted."""
        place = {"segments": 0, "chunks": self.chunks, "tokens": self.tokens, "page_micros_saved": self.page_micros}
        refused = {"refused_pages": dict(self.refused_pages)} if self.refused_pages else {}
        return place | refused | {"extracted": True}


class FilesRead(Protocol):
    """Who has which file read, of one organization, by one reader."""

    async def claim_file(self, lease: Lease, *, content_sha256: str, reader: str) -> ReadBefore | None:
        """Return None if this job is the one to have the file read, also when it is asked again.

        If a job whose passages are shown has had it read, they are this job's as well when this returns, and the job is
        in `embedding`. A job that ended otherwise is followed by the next that asks.

        Raises:
            SameFileBeingRead: a job that has not ended has it read.
            BudgetExhausted: so it does, and waits for the budget.
            LeaseLost: nothing was done.
        """
        ...
