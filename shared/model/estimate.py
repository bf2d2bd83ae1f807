"""How many tokens, and pages without text, a file is likely to have: by its size and the end of its name alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

TOKENS_PER_BYTE: Mapping[str, float] = {
    ".txt": 0.32, ".md": 0.24, ".csv": 0.46, ".tsv": 0.32, ".json": 0.49, ".xml": 0.08, ".html": 0.05, ".htm": 0.05,
    ".eml": 0.07, ".msg": 0.015, ".rtf": 0.015, ".pdf": 0.17, ".docx": 0.037, ".odt": 0.046, ".doc": 0.013,
    ".pptx": 0.006, ".odp": 0.004, ".ppt": 0.0002, ".xlsx": 0.087, ".ods": 0.087, ".xls": 0.075, ".png": 0.0017,
    ".jpg": 0.0011, ".jpeg": 0.0011, ".webp": 0.0031, ".tif": 0.0055, ".tiff": 0.0055, ".gif": 0.0023, ".bmp": 0.0011,
}  # fmt: skip
"""Where our own index knows too little of a kind: measured on the files of the tests and the demo, which are short.

Plain text is right within a third; what holds pictures scatters tenfold; a scan has fewer tokens than a text PDF.
"""


UNKNOWN_TOKENS_PER_BYTE = 0.2

ONE_PAGE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"})
"""Images that are read as one page, whatever their size."""

LEAST_PAGES: Mapping[str, int] = {".pdf": 0, ".tif": 1, ".tiff": 1} | dict.fromkeys(ONE_PAGE, 1)
"""What a model reads of a file at least: a PDF may be all text."""

BYTES_OF_A_SCAN = 12_000
"""A page of print in fax compression; scans in grey or colour have ten to a hundred times as many."""

MAX_PAGES = 5_000
"""Files with more are refused."""


def pages_of(kind: str, size_bytes: int) -> tuple[int, int]:
    """Return how many pages of a file a model reads at least and at most, if nobody knows more of its kind."""
    if kind not in LEAST_PAGES or kind in ONE_PAGE:
        return (1, 1) if kind in ONE_PAGE else (0, 0)
    return LEAST_PAGES[kind], min(MAX_PAGES, max(1, size_bytes // BYTES_OF_A_SCAN))


@dataclass(frozen=True, kw_only=True, slots=True)
class PagesKnown:
    """What our own index says of pages that a model read."""

    per_byte: Mapping[str, float] = field(default_factory=dict)
    """By kind of file, where enough of them went past a model."""
    micros_per_page: float | None = None


def kind_of(name: str) -> str:
    """Return the end of a name that tells kinds of files apart, such as `.pdf`; empty where there is none."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if len(suffix) <= 8 else ""


@dataclass(kw_only=True, slots=True)
class KindEstimate:
    """Files of one kind: all of them, those that are indexed as they are, and what the others would take."""

    objects: int = 0
    size_bytes: int = 0
    indexed: int = 0
    too_large: int = 0
    new_bytes: int = 0
    tokens: int = 0
    cost_micros: int = 0
    measured: bool = False
    """Whether the ratio is that of files of this kind in our own index."""
    pages_least: float = 0.0
    pages_most: float = 0.0
    """Pages that a model would read; one number where the kind, or our own index, says it, else a range."""
    reading_micros_least: float = 0.0
    reading_micros_most: float = 0.0
    """What that would cost, besides `cost_micros`."""


@dataclass(kw_only=True, slots=True)
class Estimate:
    """A stretch of the bucket. `after` is the last name that was counted, None at the end."""

    kinds: dict[str, KindEstimate] = field(default_factory=dict)
    after: str | None = None
