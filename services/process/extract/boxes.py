"""Where on its page a text stands: the lines that one reader saw, found again in the text of another."""

from __future__ import annotations

import ctypes
import unicodedata
from typing import Any

import pypdfium2.raw

from shared.model.document import BoxSpan
from shared.model.locator import Box

_to_device: Any = vars(pypdfium2.raw)["FPDF_PageToDevice"]  # it has no types
_MAX_LINES = 2_000
# Device units per point: the library answers in whole units.
_UNITS_PER_POINT = 10
_LOST_WITHIN = 400
_SURE_CHARACTERS = 6


def spans_of(text: str, page: Any, text_page: Any) -> tuple[BoxSpan, ...]:
    """Return stretches of `text` with their boxes on a PDF page; what cannot be found again has none."""
    letters, places = _letters_of(text)
    spans: list[BoxSpan] = []
    cursor = 0
    for line, box in _lines_of(page, text_page):
        wanted, _ = _letters_of(line)
        if not wanted:
            continue
        # Columns may come in another order; short lines, such as numbers, are believed only where they are expected.
        at = letters.find(wanted, cursor, cursor + _LOST_WITHIN + len(wanted))
        if at < 0 and len(wanted) >= _SURE_CHARACTERS:
            at = letters.find(wanted, cursor)
            at = letters.find(wanted) if at < 0 else at
        if at >= 0:
            cursor = at + len(wanted)
            spans.append(BoxSpan(places[at], places[cursor - 1] + 1, box))
    return tuple(sorted(spans, key=lambda span: span.start))


def _lines_of(page: Any, text_page: Any) -> list[tuple[str, Box]]:
    count = text_page.count_rects()
    if count > _MAX_LINES:
        return []
    rectangles = [text_page.get_rect(index) for index in range(count)]
    return [(text_page.get_text_bounded(*edges), _as_shown(page, *edges)) for edges in rectangles]


def _as_shown(page: Any, left: float, bottom: float, right: float, top: float) -> Box:
    """Turn the page's own coordinates into points from the upper left corner of what a reader sees."""
    corners = [_device_point(page, x, y) for x, y in ((left, bottom), (right, top))]
    xs, ys = sorted(x for x, _ in corners), sorted(y for _, y in corners)
    return xs[0], ys[0], xs[1], ys[1]


def _device_point(page: Any, x: float, y: float) -> tuple[float, float]:
    width, height = (round(side * _UNITS_PER_POINT) for side in page.get_size())
    device_x, device_y = ctypes.c_int(), ctypes.c_int()
    _to_device(page, 0, 0, width, height, 0, x, y, device_x, device_y)
    return device_x.value / _UNITS_PER_POINT, device_y.value / _UNITS_PER_POINT


def _letters_of(text: str) -> tuple[str, list[int]]:
    """Return letters and digits only, folded, and where each came from: marks of layout and Markdown do not count."""
    letters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for folded in unicodedata.normalize("NFKC", character).casefold():
            if folded.isalnum():
                letters.append(folded)
                places.append(place)
    return "".join(letters), places
