"""Places where text is always cut, chosen by the text around them alone, so that an edit moves no cut far from it.

Chunks that are packed from the beginning of a file all shift when a sentence is added to its first page, and each of
them would be paid for again. So a boundary is an anchor if it is the best one within `REACH_BYTES` to both sides: of
the highest rank (paragraph, line, sentence), and among these the one whose following words have the highest hash.
What is further away has no say. Two anchors are never closer than the reach, nor is one closer to the text's ends; a
text that begins or ends at an anchor therefore has the same anchors as the longer text that it was taken from.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

REACH_BYTES = 400
"""Bytes rather than characters, as a measure of tokens: scripts with longer characters need more of them."""

TABLE_RULE = re.compile(r"\|(?:\s*:?-{3,}:?\s*\|)+\s*")
"""The second line of a Markdown table."""

_SEEN_CHARACTERS = 64
_TITLE_CHARACTERS = 80
_PARAGRAPH, _LINE, _SENTENCE = 2, 1, 0
_BOUNDARY = re.compile(
    r"\n[^\S\n]*\n\s*"  # a blank line
    r"|\n\s*"
    r"|[.!?…][\"')\]»”’]*[^\S\n]+"
    r"|[。！？][」』”）]*"
)


def anchors(text: str) -> list[int]:
    """Return the offsets of a text's anchors in order: each is where a paragraph, line or sentence begins."""
    places, ranks = [0], []
    for place, rank in _boundaries(text):
        places.append(place)
        ranks.append((rank, _hash_of(text[place : place + _SEEN_CHARACTERS])))
    places.append(len(text))
    lengths = [_bytes_of(text[start:end]) for start, end in pairwise(places)]
    return [places[index + 1] for index in _peaks(lengths, ranks)]


def row_anchors(rows: Sequence[str]) -> list[int]:
    """Return which rows of a table (below its header), by number from 0, begin at an anchor."""
    ranks = [(_LINE, _hash_of(row)) for row in rows[1:]]
    return [index + 1 for index in _peaks([_bytes_of(row) for row in rows], ranks)]


def _boundaries(text: str) -> Iterator[tuple[int, int]]:
    is_row = text.startswith("|")  # a row of a table is never cut here: what follows would stand under no header
    for found in _BOUNDARY.finditer(text):
        place, mark = found.end(), found.group()
        if place >= len(text):
            return
        if "\n" not in mark:
            if not is_row:
                yield place, _SENTENCE
            continue
        is_row = text.startswith("|", place)
        if not (is_row and _stands_in_a_table(text, found.start())):
            yield place, _PARAGRAPH if mark.count("\n") > 1 and not _is_title(text, found.start()) else _LINE


def _is_title(text: str, end_of_line: int) -> bool:
    """Say whether the line before looks like one: it is better not cut off from what follows."""
    start = text.rfind("\n", max(0, end_of_line - _TITLE_CHARACTERS), end_of_line) + 1
    return end_of_line - start < _TITLE_CHARACTERS and text[end_of_line - 1] not in ".!?:;…。！？|\"')"


def _stands_in_a_table(text: str, end_of_line: int) -> bool:
    return text.startswith("|", text.rfind("\n", 0, end_of_line) + 1)


def _peaks(lengths: Sequence[int], ranks: Sequence[tuple[int, bytes]]) -> list[int]:
    """Return the boundaries that no other within reach surpasses, nor an end; `lengths` lie around and between them.

    Of equals the first counts: where everything is alike, nothing is an anchor.
    """
    places = [0]
    for length in lengths:
        places.append(places[-1] + length)
    before: list[int] = []  # where the nearest boundary before each stands that is at least its equal
    higher: list[int] = []
    for index, rank in enumerate(ranks):
        while higher and ranks[higher[-1]] < rank:
            higher.pop()
        before.append(places[higher[-1] + 1] if higher else 0)
        higher.append(index)
    found: list[int] = []
    higher.clear()
    for index in range(len(ranks) - 1, -1, -1):
        while higher and ranks[higher[-1]] <= ranks[index]:
            higher.pop()
        after = places[higher[-1] + 1] if higher else places[-1]
        higher.append(index)
        if places[index + 1] - before[index] > REACH_BYTES and after - places[index + 1] > REACH_BYTES:
            found.append(index)
    return found[::-1]


def _hash_of(text: str) -> bytes:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
