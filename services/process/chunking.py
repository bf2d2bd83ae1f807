"""Segments into chunks: pieces small enough for the model, each with its exact place. Pure and deterministic.

Structure first: a chunk never crosses a segment, and a table is cut between rows, with its header on every piece.
Then anchors, which hold the effect of an edit near it. Then the token budget: prose is cut where paragraphs, sentences
or words end, in this order of preference.
"""

from __future__ import annotations

import dataclasses
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from semantic_text_splitter import TextSplitter

from services.process.anchors import TABLE_RULE, anchors, row_anchors
from shared.ids import text_hash
from shared.model.document import BoxSpan, Chunk, Segment
from shared.model.locator import Box, Locator, LocatorKind, union
from shared.model.text import storable

TARGET_TOKENS = 200
"""What a chunk aims at: short enough to be one thought, long enough to be understood alone."""

# A tokenizer may see a long run of characters as one unknown token; the database and the reader do not.
_CHARACTERS_PER_TOKEN = 12
# The splitter's time grows faster than its input, so it is fed blocks of this size.
_BLOCK_CHARACTERS = 20_000
_VIRAMA = 9  # the combining class of marks that join two consonants
_CELLS = re.compile(r"([A-Z]+)(\d+)(?::([A-Z]+)(\d+))?")


@dataclasses.dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    header: str = ""
    first_row: int | None = None
    last_row: int | None = None


class Chunker:
    """Cuts segments as they come. Feed one file's segments in order, then `finish`.

    The text of a chunk is `segment.text[start_char:end_char]` (after `storable`, and counted from the segment's own
    `start_char` where it has one), behind the table's header lines where the piece is the middle of a table. All text
    but white space is in exactly one chunk.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        count_tokens: Callable[[str], int],
        target_tokens: int = TARGET_TOKENS,
        first_ordinal: int = 0,
    ) -> None:
        """No chunk has more than `max_tokens` tokens by `count_tokens`; `first_ordinal` continues a stopped run.

        A successor gets the same chunks when it is fed from the first segment that was not fed before.
        """
        self._budget = max(1, min(target_tokens, max_tokens))
        self._count_tokens = count_tokens
        self._splitter = TextSplitter.from_callback(self._size, self._budget)
        self._next_ordinal = first_ordinal

    def feed(self, segment: Segment) -> list[Chunk]:
        """Return the chunks of one segment; none when it holds only white space."""
        text = storable(segment.text)
        first_row = _row_of_header(text, segment.locator)
        boxes = segment.boxes if text == segment.text else ()
        # What fits as a whole stays whole; a part of something longer is never so short.
        ends = [len(text)] if self._fits(text) else [*anchors(text), len(text)]
        return [
            self._chunk(text, piece, segment.locator, first_row, boxes)
            for start, end in zip([0, *ends], ends, strict=False)
            for piece in self._pieces(text, start, end)
        ]

    def finish(self) -> list[Chunk]:
        """Return what was kept back at the end of the file (nothing today: a chunk never crosses a segment)."""
        return []

    def _chunk(
        self, text: str, piece: _Piece, locator: Locator, first_row: int | None, boxes: Sequence[BoxSpan]
    ) -> Chunk:
        content = piece.header + text[piece.start : piece.end]
        base = locator.start_char or 0
        cells = locator.cells if first_row is None else _cells_of(locator.cells or "", piece, first_row)
        place = dataclasses.replace(
            locator,
            start_char=base + piece.start,
            end_char=base + piece.end,
            cells=cells,
            box=_box_of(text, piece, boxes),
        )
        ordinal, self._next_ordinal = self._next_ordinal, self._next_ordinal + 1
        return Chunk(ordinal=ordinal, text=content, locator=place, text_hash=text_hash(content))

    def _size(self, text: str) -> int:
        return max(self._count_tokens(text), math.ceil(len(text) / _CHARACTERS_PER_TOKEN))

    def _fits(self, text: str) -> bool:
        return len(text) <= self._budget * _CHARACTERS_PER_TOKEN and self._size(text) <= self._budget

    def _pieces(self, text: str, start: int, end: int) -> Iterator[_Piece]:
        """Cut what stands between two anchors."""
        start, end = _trim(text, start, end)
        if start == end:
            return
        if self._fits(text[start:end]):
            yield _Piece(start, end)
            return
        waiting: _Piece | None = None
        for block in _blocks(text, start, end):
            for piece in self._rows(text, block) if block.header else self._prose(text, block):
                if waiting is None:
                    waiting = piece
                elif not piece.header and waiting.first_row is None and self._fits(text[waiting.start : piece.end]):
                    # A short rest, a heading or a small table reads better with its neighbour than alone.
                    waiting = _Piece(waiting.start, piece.end)
                else:
                    yield waiting
                    waiting = piece
        if waiting is not None:
            yield waiting

    def _prose(self, text: str, block: _Piece) -> Iterator[_Piece]:
        for start, end in _cut(text, block.start, block.end):
            for offset, part in self._splitter.chunk_indices(text[start:end]):
                yield from self._within_budget(text, *_trim(text, start + offset, start + offset + len(part)))

    def _within_budget(self, text: str, start: int, end: int) -> Iterator[_Piece]:
        """Halve what the splitter made too large: with some tokenizers a part has more tokens than the whole."""
        if start >= end:
            return
        if self._fits(text[start:end]) or end - start == 1:
            yield _Piece(start, end)
            return
        middle = (start + end) // 2
        near = sorted(range(start + 1, end), key=lambda place: abs(place - middle))
        at = next((place for place in near if _is_boundary(text, place)), middle)
        yield from self._within_budget(text, *_trim(text, start, at))
        yield from self._within_budget(text, *_trim(text, at, end))

    def _rows(self, text: str, block: _Piece) -> Iterator[_Piece]:
        """Pack whole rows, from anchor to anchor; all pieces but the first get the header, unless it would eat half of
        the budget.
        """
        header = block.header if self._size(block.header) * 2 <= self._budget else ""
        body = block.start + len(block.header)
        pending = _Piece(block.start, _trim(text, block.start, body)[1], "", 0, 0)
        rows = list(_lines(text, body, block.end))
        firsts = set(row_anchors([text[start:end] for start, end in rows]))
        for number, (start, end) in enumerate(rows, 1):
            if number - 1 not in firsts and self._fits(pending.header + text[pending.start : end]):
                pending = dataclasses.replace(pending, end=end, last_row=number)
                continue
            yield from self._row_or_parts(text, pending)
            pending = _Piece(start, end, header, number, number)
        yield from self._row_or_parts(text, pending)

    def _row_or_parts(self, text: str, piece: _Piece) -> Iterator[_Piece]:
        if self._fits(piece.header + text[piece.start : piece.end]):
            yield piece
            return
        for part in self._prose(text, piece):
            yield dataclasses.replace(part, first_row=piece.first_row, last_row=piece.last_row)


def chunk(
    segments: Iterable[Segment], *, max_tokens: int, count_tokens: Callable[[str], int], first_ordinal: int = 0
) -> Iterator[Chunk]:
    """Yield the chunks of a whole file; see `Chunker`."""
    chunker = Chunker(max_tokens=max_tokens, count_tokens=count_tokens, first_ordinal=first_ordinal)
    for segment in segments:
        yield from chunker.feed(segment)
    yield from chunker.finish()


def _blocks(text: str, start: int, stop: int) -> Iterator[_Piece]:
    """Tell tables from prose; a table's piece carries its two header lines."""
    lines = list(_lines(text, start, stop, keep_empty=True))
    prose_start, index = start, 0
    while index < len(lines):
        start, end = lines[index]
        rule = lines[index + 1] if index + 1 < len(lines) else None
        if rule is None or not text.startswith("|", start) or not TABLE_RULE.fullmatch(text, *rule):
            index += 1
            continue
        if prose_start < start:
            yield _Piece(prose_start, start)
        header_end = min(rule[1] + 1, stop)
        index += 2
        end = header_end
        while index < len(lines) and text.startswith("|", lines[index][0]):
            end = lines[index][1]
            index += 1
        yield _Piece(start, end, text[start:header_end])
        prose_start = end
    if prose_start < stop:
        yield _Piece(prose_start, stop)


def _lines(text: str, start: int, end: int, *, keep_empty: bool = False) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        if keep_empty or text[start:stop].strip():
            yield start, stop
        start = stop + 1


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut into blocks: at a line's end, else at a space, else between two characters that readers see as two."""
    while end - start > _BLOCK_CHARACTERS:
        limit = start + _BLOCK_CHARACTERS
        half = start + _BLOCK_CHARACTERS // 2
        at = max(text.rfind("\n", half, limit), text.rfind(" ", limit - 200, limit)) + 1
        if at <= half:
            at = next((place for place in range(limit, half, -1) if _is_boundary(text, place)), limit)
        yield start, at
        start = at
    yield start, end


def _is_boundary(text: str, place: int) -> bool:
    """Say whether what stands before and at `place` surely belongs to two grapheme clusters; when in doubt, no."""
    before, after = text[place - 1], text[place]
    if before.isascii() and after.isascii():
        return not (before == "\r" and after == "\n")
    if _is_flag_half(after):
        first = place
        while first > 0 and _is_flag_half(text[first - 1]):
            first -= 1
        return (place - first) % 2 == 0
    joined = (
        unicodedata.category(before) == "Cf" or unicodedata.combining(before) == _VIRAMA or _is_leading_jamo(before)
    )
    begins = unicodedata.category(after) in {"Lu", "Ll", "Lo", "Nd", "Po", "Zs", "So"} and after not in "\u0e33\u0eb3"
    return begins and not joined and (_is_leading_jamo(after) or not _is_jamo(after))


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _is_leading_jamo(character: str) -> bool:
    return "\u1100" <= character <= "\u115f" or "\ua960" <= character <= "\ua97f"


def _is_jamo(character: str) -> bool:
    return "\u1100" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff"


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _row_of_header(text: str, locator: Locator) -> int | None:
    """Return the sheet's row in which a table's header would stand; one above the range if it is only repeated."""
    match = _CELLS.fullmatch(locator.cells or "")
    if locator.kind is not LocatorKind.SHEET or match is None or not text.startswith("|"):
        return None
    first, last = int(match[2]), int(match[4] or match[2])
    body = text.count("\n|") - 1
    return first if body == last - first else first - 1 if body == last - first + 1 else None


def _box_of(text: str, piece: _Piece, spans: Sequence[BoxSpan]) -> Box | None:
    """Return what holds the piece on its page; None when most of it is nowhere to be seen, rather than a wrong box."""
    within = [span for span in spans if span.start < piece.end and span.end > piece.start]
    known = sum(_letters(text, max(span.start, piece.start), min(span.end, piece.end)) for span in within)
    return union(span.box for span in within) if known * 2 >= _letters(text, piece.start, piece.end) else None


def _letters(text: str, start: int, end: int) -> int:
    return sum(map(str.isalnum, text[start:end]))


def _cells_of(cells: str, piece: _Piece, first_row: int) -> str:
    """Narrow a cell range to the rows of a piece; row 0 is the table's header."""
    match = _CELLS.fullmatch(cells)
    if match is None or piece.first_row is None or piece.last_row is None:
        return cells
    first = max(int(match[2]), first_row + piece.first_row)
    return f"{match[1]}{first}:{match[3] or match[1]}{max(first, first_row + piece.last_row)}"
