"""Footnotes and comments of RTF, which the library leaves out: in brackets in the text, where they belong."""

from __future__ import annotations

import re

_NOTE = re.compile(rb"(?:\\\*\s*)?\\(?:footnote(?:\\ftnalt)?|annotation)(?![a-zA-Z])[ \r\n]?")
_TOKEN = re.compile(rb"\\[\\{}]|(?P<note>" + _NOTE.pattern + rb")")
_BRACE = re.compile(rb"\\[{}\\]|\\bin(\d{1,9}) ?|[{}]")
_NUMBER = re.compile(rb"(?<!\\)\\chftn(?![a-zA-Z]) ?")
_PARAGRAPH = re.compile(rb"(?<!\\)\\(?:pard|plain|par|s\d{1,5})(?![a-zA-Z]) ?")
"""Within a note these would end or change the paragraph that it stands in."""


def with_notes(data: bytes) -> bytes:
    """Return the file with the words of its notes as words of the text; as it is where it has none."""
    parts: list[bytes] = []
    position = 0
    for match in _TOKEN.finditer(data):
        if match["note"] is None or match.start() < position:
            continue  # typed, or a note in a note
        end = _end_of_group(data, match.end())
        if end is None:
            break
        words = _PARAGRAPH.sub(b" ", _NOTE.sub(b"", data[match.end() : end]))
        parts += (data[position : match.start()], b" [Note: ", words, b"]")
        position = end
    if not parts:
        return data
    return _NUMBER.sub(b"", b"".join([*parts, data[position:]]))


def _end_of_group(data: bytes, position: int) -> int | None:
    """Return where the group that `position` is in ends; None if it never does."""
    depth = 1
    while (match := _BRACE.search(data, position)) is not None:
        position = match.end() + int(match[1] or 0)
        depth += {b"{": 1, b"}": -1}.get(match[0], 0)
        if not depth:
            return match.start()
    return None
