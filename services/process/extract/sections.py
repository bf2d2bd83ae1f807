"""Stretches of text and where they stand, before they are numbered: what every reader in the child yields."""

from __future__ import annotations

import dataclasses
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from services.process.anchors import REACH_BYTES, TABLE_RULE, anchors, row_anchors
from services.process.extract.protocol import MAX_SEGMENT_CHARACTERS
from shared.errors import UnprocessableContent
from shared.model.document import BoxSpan, Picture, Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.text import storable

Place = tuple[int, int]
"""Row and column of a cell, from 1."""

ROWS_PER_SEGMENT = 200
_MAX_PAGE_CHARACTERS = 200_000
_MAX_HEADER = MAX_SEGMENT_CHARACTERS // 8
_PADDED_COLUMNS = 256  # beyond, a short row stays short: one wide row would unfold all others
_ESCAPED = re.compile(r"\\([.()\[\]{}#*_+\-!>~`])")


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One page, slide, part of a sheet, heading section, or file. Its text may be long or empty."""

    text: str
    locator: Locator


class Numbering:
    """Turns sections into segments: cleans, drops what is empty, cuts what is long, counts from 0.

    The same sections give the same segments, whatever `start` is.
    """

    def __init__(self, *, start: int) -> None:
        """Segments below `start` are counted and not yielded."""
        self._start = start
        self.count = 0

    def skips_one(self) -> bool:
        """Pass over the next segment, if it is below `start`; for readers that can tell without doing the work."""
        if self.count >= self._start:
            return False
        self.count += 1
        return True

    def skips(self, count: int) -> bool:
        """Pass over the next `count` segments, if all of them are below `start`."""
        if self.count + count > self._start:
            return False
        self.count += count
        return True

    def inner(self) -> Numbering:
        """Return the numbering of a file that begins here and counts for itself."""
        return Numbering(start=max(0, self._start - self.count))

    def page_of(
        self,
        section: Section,
        *,
        boxes: tuple[BoxSpan, ...] = (),
        by_ocr: bool = False,
        picture: Picture | None = None,
    ) -> Iterator[Segment]:
        """Yield one page as one segment, also when it is empty, so that a page's index is known without reading it.

        Raises:
            UnprocessableContent: no page of a book is that long.
        """
        if len(section.text) > _MAX_PAGE_CHARACTERS:
            raise UnprocessableContent("A page holds far more text than pages do; split the file.", code="TOO_COMPLEX")
        index, self.count = self.count, self.count + 1
        if index >= self._start:
            yield Segment(
                index=index,
                text=section.text,
                locator=section.locator,
                boxes=boxes,
                by_ocr=by_ocr,
                picture=picture,
            )

    def segments_of(self, section: Section) -> Iterator[Segment]:
        """Yield the segments of the next section; offsets in the locator say where each begins in its place.

        A segment that begins in the middle of a table repeats its header, and its offsets are those of its rows: the
        offset of its beginning lies before them by the header's length.
        """
        text = storable(section.text).rstrip()
        if not text:
            return
        offset = section.locator.start_char or 0
        position, header = 0, ""
        while True:
            end = _end_of_part(text, position)
            index, self.count = self.count, self.count + 1
            part = header + text[position:end]
            if index >= self._start:
                locator = section.locator
                if position or locator.kind is LocatorKind.TEXT:
                    first = offset + position - len(header)
                    locator = dataclasses.replace(locator, start_char=first, end_char=offset + end)
                yield Segment(index=index, text=part, locator=locator)
            header = _header_of_open_table(part) if text.startswith("|", end) else ""
            position = end
            if position == len(text):
                return


def without_heading_marks(text: str) -> str:
    """Return a page's text without the signs of Markdown before its headings and numbers; they say nothing there."""
    return _ESCAPED.sub(r"\1", re.sub(r"^#{1,6} (?=\S)", "", text.strip(), flags=re.MULTILINE))


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a Markdown table, one line a row, the first one as its header."""
    width = max(map(len, rows))
    lines = [_line(row, width) for row in rows]
    lines.insert(1, "|" + " --- |" * width)
    return "\n".join(lines)


def sheet_sections(
    sheet: str, rows: Iterable[Sequence[str]], *, column: int, row: int, width: int | None = None
) -> Iterator[Section]:
    """Yield a sheet's table in parts of some hundred rows, each under the header and with its own cell range.

    `column` and `row` are where the table's upper left corner stands, counted from 1; 0 when nobody knows. With
    `width`, the length of the longest row, the rows are taken as they come and not held.
    """
    if width is None:
        rows = list(rows)
        width = max(map(len, rows), default=0)
    source = iter(rows)
    header = next(source, None)
    if header is None:
        return
    for start, body in _parts_of(header, source):
        # The first part's range holds the header's row; the later parts only repeat it.
        first, last = row + (start if start > 1 else 0), row + start + len(body) - 1
        cells = f"{column_letters(column)}{first}:{column_letters(column + width - 1)}{last}" if row else None
        said = [values for values in body if any(value.strip() for value in values)]
        if body and not said:
            continue  # between a table and a lone cell far below it there may be thousands of rows with nothing
        yield Section(table_text([header, *said]), Locator(kind=LocatorKind.SHEET, sheet=sheet, cells=cells))


def _parts_of(header: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[tuple[int, list[Sequence[str]]]]:
    """Cut the rows below the header, so that a part with its header is usually one segment; at an anchor, if any.

    Yields each part with the number of its first row. What follows a part within reach has a say in where it ends, so
    this much is held and no more.
    """
    room = MAX_SEGMENT_CHARACTERS * 3 // 4 - sum(map(len, header))
    start, waiting = 1, deque[Sequence[str]]()
    while True:
        held, end, used, beyond = list[Sequence[str]](), None, 0, 0
        while end is None or beyond <= REACH_BYTES:
            if (row := waiting.popleft() if waiting else next(rows, None)) is None:
                break
            size = _size_of(row)
            if end is None and held and (len(held) >= ROWS_PER_SEGMENT or used + size > room):
                end = len(held)
            held.append(row)
            used, beyond = used + size, beyond + (0 if end is None else size)
        if end is None:
            if held or start == 1:
                yield start, held
            return
        texts = [_line(row, len(header)) for row in held]
        at = max((number for number in row_anchors(texts) if number <= end), default=0)
        end = at if at > end // 2 else end
        yield start, held[:end]
        start += end
        waiting.extendleft(reversed(held[end:]))


def _size_of(row: Sequence[str]) -> int:
    return sum(map(len, row)) + 3 * len(row)


def remark_section(sheet: str, said: Sequence[tuple[Place, str]]) -> Section | None:
    """Return what was remarked on cells of a sheet, in their order; None if that is nothing."""
    if not said:
        return None
    rows, columns = zip(*(place for place, _ in said), strict=True)
    first, last = _name_of((min(rows), min(columns))), _name_of((max(rows), max(columns)))
    cells = first if first == last else f"{first}:{last}"
    lines = [f"Comment on {_name_of(place)}: {words}" for place, words in sorted(said, key=lambda item: item[0])]
    return Section("\n".join(lines), Locator(kind=LocatorKind.SHEET, sheet=sheet, cells=cells))


def _name_of(place: Place) -> str:
    row, column = place
    return f"{column_letters(column)}{row}"


def column_letters(number: int) -> str:
    """Return a column's letters: 1 is A, 27 is AA."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def _line(row: Sequence[str], width: int) -> str:
    cells = [_cell(value) for value in row]
    return "| " + " | ".join(cells + [""] * (min(width, _PADDED_COLUMNS) - len(cells))) + " |"


def _cell(value: str) -> str:
    return " ".join(value.replace("|", "\\|").split())


def _end_of_part(text: str, position: int) -> int:
    """Return where a long text is cut: at an anchor, where its chunks are cut anyway, so that no edit moves them."""
    if len(text) - position <= MAX_SEGMENT_CHARACTERS:
        return len(text)
    limit = position + MAX_SEGMENT_CHARACTERS
    # What follows within reach has a say in what is an anchor.
    found = [position + place for place in anchors(text[position : limit + REACH_BYTES + 1])]
    found += _anchors_in_table(text, position, limit)
    half = position + MAX_SEGMENT_CHARACTERS // 2
    if eligible := [place for place in found if half < place <= limit]:
        return eligible[-1]
    for mark in ("\n\n", "\n", " "):
        at = text.rfind(mark, half, limit)
        if at > 0:
            return at + len(mark)
    return limit


def _anchors_in_table(text: str, position: int, limit: int) -> list[int]:
    """Return where rows begin at anchors, in the table that stands at the limit, if one does."""
    start = text.rfind("\n", position, limit) + 1 or position
    if not text.startswith("|", start):
        return []
    while start > position and text.startswith("|", before := text.rfind("\n", position, start - 1) + 1 or position):
        start = before
    places: list[int] = []
    while text.startswith("|", start) and start <= limit + REACH_BYTES:
        places.append(start)
        start = text.find("\n", start) + 1 or len(text)
    rows = [text[place:end].rstrip("\n") for place, end in zip(places, [*places[1:], start], strict=True)]
    head = 2 if len(rows) > 1 and TABLE_RULE.fullmatch(rows[1]) else 0
    return [places[head + number] for number in row_anchors(rows[head:])]


def _header_of_open_table(text: str) -> str:
    """Return the two header lines of the table in whose middle a text ends; nothing when they are long."""
    end = len(text.rstrip("\n"))
    while end > 0:
        start = text.rfind("\n", 0, end) + 1
        if not text.startswith("|", start):
            return ""
        if TABLE_RULE.fullmatch(text, start, end):
            first = text.rfind("\n", 0, max(0, start - 1)) + 1
            header = text[first : end + 1]
            return header if first < start and text.startswith("|", first) and len(header) <= _MAX_HEADER else ""
        end = start - 1
    return ""
