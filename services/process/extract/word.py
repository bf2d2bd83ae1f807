"""What stands beside the text of a Word document, put where it belongs: the library hands all of it out at the end.

Footnotes, endnotes and comments stand behind the paragraph that refers to them, so under its heading. Headers and
footers come first, each once, under none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from services.process.extract.hypertext import Block
from services.process.extract.parts import ODD, Parts

Layered = tuple[str, Block]
"""The library's name of the layer that a block is in, and the block."""

BODY, AROUND = "body", {"header", "footer"}

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MARK = re.compile(r"\[(?:\^|cmt:)(-?\d+)\]")
_KINDS = {
    f"{_W}footnoteReference": ("word/footnotes.xml", f"{_W}footnote", "Note"),
    f"{_W}endnoteReference": ("word/endnotes.xml", f"{_W}endnote", "Note"),
    f"{_W}commentReference": ("word/comments.xml", f"{_W}comment", "Comment"),
}
_TEXTS = {f"{_W}t", "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"}
_SPACES = {f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}tab": "\t", f"{_W}noBreakHyphen": "-"}

Note = tuple[str, str]
"""The id by which the text refers to a note, and what it says."""


def arranged(layered: Iterable[Layered], data: bytes) -> list[Block]:
    """Return the blocks of a document in the order in which they are read.

    Notes whose place cannot be told for certain come first, under no heading: rather no place than a wrong one.
    """
    layered = list(layered)
    around = list(dict.fromkeys((0, block[1]) for layer, block in layered if layer in AROUND))
    body = [block for layer, block in layered if layer == BODY]
    notes = [(0, block[1]) for layer, block in layered if layer not in {BODY, *AROUND}]
    if not notes:
        return [*around, *body]
    marks = [match[1] for _, text in body for match in _MARK.finditer(text)]
    referred = _referred(data)
    if marks != [name for name, _ in referred]:
        return [*around, *notes, *body]
    return [*around, *_placed(body, referred)]


def _placed(body: Sequence[Block], notes: Sequence[Note]) -> Iterator[Block]:
    waiting = iter(notes)
    for level, text in body:
        own = [next(waiting)[1] for _ in _MARK.finditer(text)]
        yield level, _MARK.sub("", text) if own else text
        yield from ((0, note) for note in own if note)


def _referred(data: bytes) -> list[Note]:
    """Return what the text refers to, in its order; nothing when the file is not as expected."""
    try:
        with Parts(data) as parts:
            references = [
                (_KINDS[element.tag], element.get(f"{_W}id", ""))
                for element in parts.xml("word/document.xml").iter()
                if element.tag in _KINDS
            ]
            told = {kind: _told(parts, *kind) for kind in {kind for kind, _ in references}}
            return [(name, told[kind].get(name, "")) for kind, name in references]
    except ODD:
        return []  # the library has read the words


def _told(parts: Parts, part: str, tag: str, word: str) -> dict[str, str]:
    found = {}
    for note in parts.xml(part).iter(tag):
        lines = ("".join(map(_said, line.iter())).strip() for line in note.iter(f"{_W}p"))
        if said := "\n".join(line for line in lines if line):
            found[note.get(f"{_W}id", "")] = f"{word}: {said}"
    return found


def _said(element: Any) -> str:
    if element.tag in _TEXTS:
        return element.text or ""
    return _SPACES.get(element.tag, "")
