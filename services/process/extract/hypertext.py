"""Pages of HTML as blocks: whatever a browser shows is in one of them, once.

A term stands on the line above its description. Navigation (`<nav>`, its ARIA role, what DocBook calls so, and a row or
two of nothing but links) comes last, on one line, so that it is found and is no passage of its own. Not shown, and so
not read: scripts, templates, what has the attribute `hidden`, and what stands in for scripts, frames and players.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser

from services.process.extract import tags
from services.process.extract.sections import table_text

Block = tuple[int, str]
"""A heading's level, 0 for all else, and a text."""

Attributes = Sequence[tuple[str, str | None]]

_END_OF_COMMENT = re.compile(r"--!?>")
_REACH = 256  # how far back an open element is looked for that a start tag ends
_MAX_HEADING_CHARACTERS = 250  # what is longer was marked up as a heading for its looks
_MAX_SPAN = 50
_MAX_NAVIGATION_ROWS = 2


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page in reading order; its title is the heading of a page that has no other."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.finish()


@dataclasses.dataclass(slots=True)
class _Cell:
    columns: int
    rows: int
    blocks: list[Block] = dataclasses.field(default_factory=list)
    holds_table: bool = False
    linked: int = 0


@dataclasses.dataclass(slots=True)
class _Table:
    around: list[Block]
    rows: list[list[_Cell]] = dataclasses.field(default_factory=list)


class _Reader(HTMLParser):
    """Keeps the open elements as browsers do, as far as it matters for what is shown and where a block ends."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[tuple[str, frozenset[str]]] = []
        self._within = Counter[str]()  # open elements by name, and by role in capitals
        self._blocks: list[Block] = []
        self._tables: list[_Table] = []
        self._line: list[str] = []
        self._linked = 0
        self._mark = ""
        self._terms: list[str] = []
        self._navigation: list[str] = []
        self._title: list[str] = []

    def finish(self) -> list[Block]:
        while self._open:
            self._leave()
        self._end_block()
        self._end_terms()
        found = self._blocks
        if (title := _collapsed("".join(self._title))) and found and not any(level for level, _ in found):
            found.insert(0, (1, title))
        if line := " | ".join(self._navigation):
            if found and not found[-1][0] and not found[-1][1].startswith("|"):
                line = f"{found.pop()[1]}\n{line}"
            found.append((0, line))
        return found

    # Tags

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        if self._within["title"]:
            self._leave_to("title")
        if tag in tags.ENDED:
            self._end_open(*tags.ENDED[tag])
        if _is_block(tag):
            self._boundary(tag)
        if tag in tags.VOID:
            self._void(tag, dict(attrs))
            return
        roles = frozenset(_roles(tag, dict(attrs)))
        if tag in {"li", "dd"} and not self._within["HIDDEN"] | ("HIDDEN" in roles):
            self._mark = "- " if tag == "li" else ""
        self._open.append((tag, roles))
        self._within.update((tag, *roles))
        if not self._within["HIDDEN"] and not self._within["NAVIGATION"]:
            self._start_of_table(tag, dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        if self._within[tag]:
            self._leave_to(tag)
        elif _is_block(tag):
            self._boundary(tag)

    def handle_data(self, data: str) -> None:
        if self._within["HIDDEN"]:
            if self._within["title"] and not self._within["svg"] and not self._blocks:
                self._title.append(data)
            return
        data = data.replace("\xad", "")
        if self._within["a"]:
            self._linked += _letters(data)
        self._line.append(
            data if self._within["pre"] or self._within["textarea"] else re.sub(r"[ \t\n\r\f]+", " ", data)
        )

    def parse_comment(self, i: int, report: bool = True) -> int:  # noqa: ARG002
        # As browsers do: one that is left open hides all that follows, and is looked for once.
        end = _END_OF_COMMENT.search(self.rawdata, i + 2)
        return end.end() if end else len(self.rawdata)

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        # Word's conditions, and sections of XML, which mean nothing to browsers.
        return self.parse_bogus_comment(i, bool(report))

    def _end_open(self, names: set[str], barriers: set[str]) -> None:
        if not any(self._within[tag] for tag in names):
            return
        for depth, (tag, _) in enumerate(reversed(self._open[-_REACH:]), 1):
            if tag in names:
                for _ in range(depth):
                    self._leave()
                return
            if tag in barriers:
                return

    def _leave_to(self, tag: str) -> None:
        while self._open[-1][0] != tag:
            self._leave()
        self._leave()

    def _leave(self) -> None:
        tag, roles = self._open[-1]
        if _is_block(tag):
            self._boundary(tag, ends=True)
        self._open.pop()
        self._within.subtract((tag, *roles))
        if "TABLE" in roles and self._tables:
            self._end_of_table()
        elif "CELL" in roles and self._tables:
            self._blocks = self._tables[-1].around
        elif tag == "dl":
            self._end_terms()

    def _void(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "br":
            if not self._within["HIDDEN"]:
                self._line.append("\n")
        elif tag == "img":
            self.handle_data(attributes.get("alt") or "")
        elif tag == "input" and (attributes.get("type") or "").lower() not in tags.UNSEEN_INPUTS:
            self.handle_data(f" {attributes.get('value') or attributes.get('placeholder') or ''} ")

    # Blocks

    def _boundary(self, tag: str, *, ends: bool = False) -> None:
        """End a block, but not within a heading, unless it is the heading that ends."""
        if not self._line or self._within["HIDDEN"] or tag == "br":
            return
        if any(self._within[name] for name in tags.HEADINGS) and not (ends and tag in tags.HEADINGS) and tag != "table":
            self._line.append(" ")
        else:
            self._end_block()

    def _end_block(self) -> None:
        raw, linked = "".join(self._line), self._linked
        self._line.clear()
        self._linked = 0
        verbatim = self._within["pre"] or self._within["textarea"]
        text = raw.strip("\n") if verbatim else re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", raw)).strip()
        if not text.strip():
            return
        level = next((level for tag, level in tags.HEADINGS.items() if self._within[tag]), 0)
        if self._within["NAVIGATION"]:
            self._navigation.append(_collapsed(text))
        elif level and len(text) <= _MAX_HEADING_CHARACTERS:
            self._end_terms()
            self._mark = ""
            self._blocks.append((level, _collapsed(text)))
        elif self._within["dt"]:
            self._terms.append(text)
        else:
            self._blocks.append((0, "\n".join([*self._terms, self._mark + text])))
            self._terms.clear()
            self._mark = ""
        if self._tables and self._tables[-1].rows and self._tables[-1].rows[-1]:
            self._tables[-1].rows[-1][-1].linked += linked

    def _end_terms(self) -> None:
        """Let terms stand alone that nothing describes, such as those of a table of contents."""
        if self._terms:
            self._blocks.append((0, "\n".join(self._terms)))
            self._terms.clear()

    # Tables

    def _start_of_table(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "table":
            self._end_terms()
            self._mark = ""
            if self._tables and self._tables[-1].rows and self._tables[-1].rows[-1]:
                self._tables[-1].rows[-1][-1].holds_table = True
            self._tables.append(_Table(self._blocks))
            self._give_role("TABLE")
        elif self._tables and tag == "tr":
            self._tables[-1].rows.append([])
        elif self._tables and tag in tags.CELLS:
            table = self._tables[-1]
            if not table.rows:
                table.rows.append([])
            cell = _Cell(_span(attributes.get("colspan")), _span(attributes.get("rowspan")))
            table.rows[-1].append(cell)
            self._blocks = cell.blocks
            self._give_role("CELL")

    def _give_role(self, role: str) -> None:
        tag, roles = self._open[-1]
        self._open[-1] = (tag, roles | {role})
        self._within[role] += 1

    def _end_of_table(self) -> None:
        table = self._tables.pop()
        self._end_terms()
        self._blocks = table.around
        cells = [cell for row in table.rows for cell in row]
        filled = [cell for cell in cells if cell.blocks]
        if len(filled) < 2 or any(cell.holds_table or any(level for level, _ in cell.blocks) for cell in cells):
            for cell in cells:  # a table for the looks
                self._blocks += cell.blocks
        elif len(table.rows) <= _MAX_NAVIGATION_ROWS and all(_is_link(cell) for cell in filled):
            self._navigation += [_text_of(cell) for cell in filled]
        else:
            self._blocks.append((0, table_text(_grid(table.rows))))


def _is_block(tag: str) -> bool:
    return tag not in tags.INLINE and tag not in tags.NOT_SHOWN and ":" not in tag


def _roles(tag: str, attributes: dict[str, str | None]) -> list[str]:
    roles = []
    if tag in tags.NOT_SHOWN or ("hidden" in attributes and attributes["hidden"] != "until-found"):
        roles.append("HIDDEN")
    classes = (attributes.get("class") or "").split()
    if tag == "nav" or attributes.get("role") == "navigation" or not tags.NAVIGATION_CLASSES.isdisjoint(classes):
        roles.append("NAVIGATION")
    return roles


def _grid(rows: Sequence[Sequence[_Cell]]) -> list[list[str]]:
    """Return the cells' texts, each where its cell begins; what a cell covers else is empty."""
    grid: list[list[str]] = []
    covered = Counter[int]()  # rows to come, by column
    for row in rows:
        line: list[str] = []
        waiting = covered
        covered = Counter({column: left - 1 for column, left in waiting.items() if left > 1})
        for cell in row:
            while waiting[len(line)] > 0:
                line.append("")
            if cell.rows > 1:
                covered.update(dict.fromkeys(range(len(line), len(line) + cell.columns), cell.rows - 1))
            line += [_text_of(cell)] + [""] * (cell.columns - 1)
        if any(line):
            grid.append(line)
    return grid


def _text_of(cell: _Cell) -> str:
    return _collapsed(" ".join(text for _, text in cell.blocks))


def _is_link(cell: _Cell) -> bool:
    return 0 < cell.linked >= sum(_letters(text) for _, text in cell.blocks)


def _span(value: str | None) -> int:
    return min(max(1, int(value)), _MAX_SPAN) if value is not None and re.fullmatch(r"\d{1,6}", value) else 1


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))
