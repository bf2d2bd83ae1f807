"""What the library does not tell of old PowerPoint files: which words stand on which slide, and its notes."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

from services.process.extract.ole import Compound, OleError
from services.process.extract.sections import Section
from shared.model.locator import Locator, LocatorKind

_CONTAINER = 0xF
_HEADER = struct.Struct("<HHI")
_DOCUMENT, _SLIDE, _NOTES, _DRAWING = 0x03E8, 0x03EE, 0x03F0, 0x040C
_SLIDE_ATOM, _PERSIST_ATOM, _TEXT_LIST = 0x03EF, 0x03F3, 0x0FF0
_TEXT_KIND, _WIDE_TEXT, _NARROW_TEXT, _OUTLINE = 0x0F9F, 0x0FA0, 0x0FA8, 0x0F9E
_EDIT, _DIRECTORY = 0x0FF5, 0x1772
_SLIDES, _NOTES_LIST = 0, 2
_NOTE_TEXT = 2
_MAX_DEPTH = 64
_MAX_EDITS = 10_000
_MAX_SLIDES = 5_000
_MAX_CHARACTERS = 16 * 1024 * 1024

_Record = tuple[int, int, int, int]
"""Instance, kind, and where the body begins and ends."""


def slides(data: bytes) -> list[Section]:
    """Return one section per slide, its notes at the end; nothing when the file is not as expected."""
    try:
        file = Compound(data)
        streams = file.entries()
        user, document = streams.get("current user"), streams.get("powerpoint document")
        if user is None or document is None:
            return []
        return list(_Presentation(file.read(document), file.read(user)).sections())
    except (OleError, struct.error, LookupError, RecursionError):
        return []  # the text is read without the numbers of slides


class _Presentation:
    """The stream of a presentation, and where its objects stand after the last edit."""

    def __init__(self, stream: bytes, user: bytes) -> None:
        self._stream = stream
        self._offsets: dict[int, int] = {}
        self._document = 0
        (edit,) = struct.unpack_from("<I", user, 16)
        for number in range(_MAX_EDITS):
            start, _ = self._span(edit, _EDIT)
            before, directory, document = struct.unpack_from("<III", stream, start + 8)
            self._document = document if number == 0 else self._document
            self._read_directory(directory)
            if not before or before >= edit:
                return
            edit = before

    def sections(self) -> Iterator[Section]:
        """Yield the slides in the order in which they are shown."""
        lists = {
            instance: (start, end)
            for instance, kind, start, end in self._children(*self._body(self._document, _DOCUMENT))
            if kind == _TEXT_LIST
        }
        notes = dict(self._notes(*lists[_NOTES_LIST])) if _NOTES_LIST in lists else {}
        characters = 0
        for number, (slide, outline) in enumerate(self._outlines(*lists[_SLIDES]), 1):
            shown, spoken = self._slide(slide, outline, notes)
            characters += sum(map(len, shown)) + len(spoken)
            if characters > _MAX_CHARACTERS:
                raise OleError("slides that stand for each other")
            text = "\n\n".join(shown + ([f"Notes: {spoken}"] if spoken else []))
            yield Section(text, Locator(kind=LocatorKind.SLIDE, slide=number))

    def _read_directory(self, at: int) -> None:
        (start, end) = self._span(at, _DIRECTORY)
        while start + 4 <= end:
            (head,) = struct.unpack_from("<I", self._stream, start)
            first, count = head & 0xFFFFF, head >> 20
            for index, offset in enumerate(struct.unpack_from(f"<{count}I", self._stream, start + 4)):
                self._offsets.setdefault(first + index, offset)  # the newest edit is read first
            start += 4 + 4 * count

    def _slide(self, reference: int, outline: list[str], notes: Mapping[int, str]) -> tuple[list[str], str]:
        body = self._body(reference, _SLIDE)
        used: set[int] = set()
        texts, spoken = [], ""
        for _, kind, start, end in self._children(*body):
            if kind == _SLIDE_ATOM:
                spoken = notes.get(struct.unpack_from("<I", self._stream, start + 16)[0], "")
            elif kind == _DRAWING:
                texts += [text for _, text in self._texts(start, end, outline, used)]
        rest = [text for index, text in enumerate(outline) if index not in used]
        return [clean for text in (*rest, *texts) if (clean := _clean(text))], spoken

    def _notes(self, start: int, end: int) -> Iterator[tuple[int, str]]:
        for _, kind, at, _ in self._children(start, end):
            if kind != _PERSIST_ATOM:
                continue
            reference, identifier = struct.unpack_from("<I8xI", self._stream, at)
            texts: list[tuple[int, str]] = []
            for _, part, first, last in self._children(*self._body(reference, _NOTES)):
                if part == _DRAWING:
                    texts += self._texts(first, last, [], set())
            # Some writers do not say which of the texts are the notes.
            sorts = {_NOTE_TEXT} if any(sort == _NOTE_TEXT for sort, _ in texts) else {sort for sort, _ in texts}
            yield identifier, " ".join(_clean(text) for sort, text in texts if sort in sorts).strip()

    def _outlines(self, start: int, end: int) -> Iterator[tuple[int, list[str]]]:
        """Yield each slide's reference, and the texts that the list of slides keeps for it."""
        found: list[tuple[int, list[str]]] = []
        for _, kind, first, last in self._children(start, end):
            if kind == _PERSIST_ATOM:
                found.append((struct.unpack_from("<I", self._stream, first)[0], []))
            elif found and (text := self._text(kind, first, last)) is not None:
                found[-1][1].append(text)
        yield from found[:_MAX_SLIDES]

    def _texts(
        self, start: int, end: int, outline: list[str], used: set[int], depth: int = 0
    ) -> Iterator[tuple[int, str]]:
        """Yield the sort and the words of each text in a drawing, in the order of its shapes."""
        sort = -1
        for _, kind, first, last, is_container in self._records(start, end):
            if is_container:
                if depth < _MAX_DEPTH:
                    yield from self._texts(first, last, outline, used, depth + 1)
            elif kind == _TEXT_KIND:
                (sort,) = struct.unpack_from("<I", self._stream, first)
            elif kind == _OUTLINE:
                (index,) = struct.unpack_from("<I", self._stream, first)
                if index < len(outline) and index not in used:
                    used.add(index)
                    yield sort, outline[index]
            elif (text := self._text(kind, first, last)) is not None:
                yield sort, text

    def _text(self, kind: int, start: int, end: int) -> str | None:
        if kind == _WIDE_TEXT:
            return self._stream[start:end].decode("utf-16-le", errors="replace")
        return self._stream[start:end].decode("latin-1") if kind == _NARROW_TEXT else None

    def _body(self, reference: int, kind: int) -> tuple[int, int]:
        return self._span(self._offsets[reference], kind)

    def _span(self, at: int, kind: int) -> tuple[int, int]:
        _, found, length = _HEADER.unpack_from(self._stream, at)
        if found != kind:
            raise OleError("not what was looked for")
        return at + _HEADER.size, min(at + _HEADER.size + length, len(self._stream))

    def _children(self, start: int, end: int) -> Iterator[_Record]:
        return ((instance, kind, first, last) for instance, kind, first, last, _ in self._records(start, end))

    def _records(self, start: int, end: int) -> Iterator[tuple[int, int, int, int, bool]]:
        while start + _HEADER.size <= end:
            head, kind, length = _HEADER.unpack_from(self._stream, start)
            first = start + _HEADER.size
            start = min(first + length, end)
            yield head >> 4, kind, first, start, head & 0xF == _CONTAINER


def _clean(text: str) -> str:
    # A star stands for the number of the slide; \r ends a paragraph and \v a line.
    words = text.replace("\r", "\n").replace("\v", "\n").strip("\n ")
    return "" if words == "*" else words
