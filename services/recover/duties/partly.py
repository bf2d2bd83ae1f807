"""A duty that failed in part says both: what was done, and what was not."""

from __future__ import annotations

from collections import Counter


class PartlyDone(Exception):
    """Raised at the end, when everything else was done: `counts` is what a duty without failures returns."""

    def __init__(self, counts: Counter[str], error: Exception) -> None:
        """Take both."""
        super().__init__(str(error))
        self.counts, self.error = counts, error
