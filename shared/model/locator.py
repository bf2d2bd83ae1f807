"""Where in its file a passage stands, in the terms of that file, so that a citation can be followed."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


class LocatorKind(enum.StrEnum):
    """The unit in which a file is cited."""

    PAGE = "page"
    SLIDE = "slide"
    SHEET = "sheet"
    HEADING = "heading"
    TEXT = "text"
    TIME = "time"


Box = tuple[float, float, float, float]
"""A rectangle on a page: x0, y0, x1, y1 in points (1/72 inch) from the upper left corner of the page as it is shown."""


def union(boxes: Iterable[Box]) -> Box | None:
    """Return the smallest box that holds all boxes; None when there are none."""
    edges = list(zip(*boxes, strict=True))
    return (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])) if edges else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Locator:
    """One place in one file. `kind` says which fields lead; the others may add to it.

    Numbers of pages and slides count from 1; character offsets count Unicode characters of the extracted text of
    that page, slide, sheet or file, from 0, end exclusive; times are milliseconds from the start.
    """

    kind: LocatorKind
    page: int | None = None
    slide: int | None = None
    sheet: str | None = None
    cells: str | None = None
    """A range such as `A1:D20`."""
    heading_path: tuple[str, ...] | None = None
    start_char: int | None = None
    end_char: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    attachment: tuple[str, ...] | None = None
    """The names of the attachments of a mail that lead to it, the outermost first; the other fields hold within it."""
    box: Box | None = None
    """What holds the passage on its page; None when the parser does not say, as after OCR."""

    @property
    def label(self) -> str:
        """A short text for people: `page 3`, `sheet Budget, A1:D20`, `Installation › Upgrade`, `offer.pdf › page 1`."""
        return " › ".join([*(self.attachment or ()), self._place])

    @property
    def _place(self) -> str:
        match self.kind:
            case LocatorKind.PAGE:
                return f"page {self.page}"
            case LocatorKind.SLIDE:
                return f"slide {self.slide}"
            case LocatorKind.SHEET:
                return f"sheet {self.sheet}" + (f", {self.cells}" if self.cells else "")
            case LocatorKind.HEADING:
                return " › ".join(self.heading_path or ()) or "start"
            case LocatorKind.TEXT:
                return f"characters {self.start_char}–{self.end_char}"
            case LocatorKind.TIME:
                return f"{_clock(self.start_ms)}–{_clock(self.end_ms)}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON values."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        values["kind"] = self.kind.value
        if self.heading_path is not None:
            values["heading_path"] = list(self.heading_path)
        if self.attachment is not None:
            values["attachment"] = list(self.attachment)
        if self.box is not None:
            values["box"] = list(self.box)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Locator:
        """Read what `to_json` wrote; unknown fields (of a newer version) are left out."""
        apart = {"kind", "heading_path", "attachment", "box"}
        known = {key: values[key] for key in cls.__slots__ if key in values and key not in apart}
        path, attachment = values.get("heading_path"), values.get("attachment")
        return cls(
            kind=LocatorKind(values["kind"]),
            heading_path=None if path is None else tuple(path),
            attachment=None if attachment is None else tuple(attachment),
            box=_box_of(values.get("box")),
            **known,
        )


def _box_of(value: Any) -> Box | None:
    if value is None:
        return None
    x0, y0, x1, y1 = map(float, value)
    return x0, y0, x1, y1


def _clock(milliseconds: int | None) -> str:
    seconds = (milliseconds or 0) // 1000
    return f"{seconds // 60}:{seconds % 60:02d}"
