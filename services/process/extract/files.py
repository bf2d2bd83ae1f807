"""One file, and what is attached to it, as segments: which reader takes what. Runs in the child."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image

from services.process.extract import (
    attachments,
    bodies,
    books,
    delimited,
    hypertext,
    library,
    office,
    pages,
    places,
    rich,
    sniffing,
    texts,
    trees,
    word,
)
from services.process.extract.protocol import Request
from services.process.extract.sections import Numbering, Section
from shared.errors import UnprocessableContent
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind

_open_pdf: Any = pypdfium2.PdfDocument  # it has no types


class Reading:
    """Reads the file that was asked for, with one allowance for all that is attached to it, at any depth."""

    def __init__(self, request: Request) -> None:
        """Take the request; nothing is read yet."""
        self._request = request
        self._parts_left = attachments.MAX_PARTS
        self._bytes_left = attachments.MAX_BYTES

    async def segments(self) -> AsyncIterator[Segment]:
        """Yield the segments of the file from the wanted one on; those of attachments say in which they stand.

        Whoever read it, every place is `places.bounded`.

        Raises:
            UnprocessableContent: the verdict on the file.
        """
        request = self._request
        async for segment in self._read(request.path, request.media_type, Numbering(start=request.start), 0):
            yield dataclasses.replace(segment, locator=places.bounded(segment.locator))

    async def _read(self, path: Path, media_type: str, numbering: Numbering, depth: int) -> AsyncIterator[Segment]:
        if media_type == media.PDF:
            reader = pages.read_pdf(path, numbering, pictures=self._request.pictures)
        elif media_type in media.IMAGES:
            reader = pages.read_image(path, media_type, numbering, pictures=self._request.pictures)
        elif media_type in {media.EML, media.MSG}:
            reader = self._read_mail(path, media_type, numbering, depth)
        elif media_type in media.DELIMITED:
            reader = _read_rows(path, media_type, numbering)
        else:
            reader = _read_sections(path.read_bytes(), media_type, numbering)  # noqa: ASYNC240  # alone here
        async for segment in reader:
            yield segment

    async def _read_mail(self, path: Path, media_type: str, numbering: Numbering, depth: int) -> AsyncIterator[Segment]:
        data, parts = attachments.of_mail(path.read_bytes(), media_type)  # noqa: ASYNC240
        async for segment in _read_sections(data, media_type, numbering):
            yield segment
        del data
        for part in parts:
            self._parts_left -= 1
            if self._parts_left < 0 or depth >= attachments.MAX_DEPTH:
                raise attachments.too_many()
            attached = self._request.folder / f"attachment-{self._parts_left}"
            try:
                async for segment in self._read_part(part, attached, numbering, depth + 1):
                    yield segment
            finally:
                attached.unlink(missing_ok=True)

    async def _read_part(
        self, part: attachments.Attached, path: Path, numbering: Numbering, depth: int
    ) -> AsyncIterator[Segment]:
        """Yield an attachment's segments; what has pages always counts as so many, so that a successor may skip it."""
        first, inner, page_count, note = numbering.count, numbering.inner(), None, ""
        try:
            data = part.load()
            self._bytes_left -= len(data)
            if self._bytes_left < 0:
                raise attachments.too_many()
            path.write_bytes(data)  # noqa: ASYNC240
            del data
            media_type = sniffing.sniff(path, name=f"{part.name}.eml" if part.is_mail else part.name)
            page_count = _pages_of(path, media_type)
            if page_count is not None and numbering.skips(page_count):
                return
            async for segment in self._read(path, media_type, inner, depth):
                yield _within(part.name, segment, first)
        except UnprocessableContent as verdict:
            if verdict.code == "TOO_COMPLEX":
                raise
            # The mail is read all the same. Kinds that nobody reads are only named in its list of attachments.
            note = f"{part.name}: {verdict.message}" if verdict.code in {"CORRUPT", "ENCRYPTED"} else ""
        for segment in _rest(inner, page_count, note):
            yield _within(part.name, segment, first)
        numbering.count = first + inner.count


def _rest(inner: Numbering, page_count: int | None, note: str) -> Iterator[Segment]:
    place = Locator(kind=LocatorKind.TEXT, start_char=0)
    if page_count is None:
        yield from inner.segments_of(Section(note, place))
    while page_count is not None and inner.count < page_count:
        yield from inner.page_of(Section(note, dataclasses.replace(place, end_char=len(note))))
        note = ""


def _pages_of(path: Path, media_type: str) -> int | None:
    """Return how many segments a thing with pages has; None for others, and where only reading it will tell."""
    try:
        if media_type == media.PDF:
            with closing(_open_pdf(path)) as pdf:
                return len(pdf)
        if media_type in media.IMAGES:
            with Image.open(path) as image:
                return int(getattr(image, "n_frames", 1)) if media_type == "image/tiff" else 1
    except (pypdfium2.PdfiumError, OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError):
        pass
    return None


def _within(name: str, segment: Segment, first: int) -> Segment:
    locator = dataclasses.replace(segment.locator, attachment=(name, *(segment.locator.attachment or ())))
    return dataclasses.replace(segment, index=first + segment.index, locator=locator)


async def _read_rows(path: Path, media_type: str, numbering: Numbering) -> AsyncIterator[Segment]:
    for section in await delimited.delimited_sections(path, media_type):
        for segment in numbering.segments_of(section):
            yield segment


async def _read_sections(data: bytes, media_type: str, numbering: Numbering) -> AsyncIterator[Segment]:
    if media_type == media.TEXT:
        sections = iter(await texts.text_sections(data))
    elif media_type in {media.JSON, media.XML} and (found := trees.tree_sections(await texts.decode(data), media_type)):
        sections = iter(found)
    elif media_type == media.HTML:
        sections = office.block_sections(hypertext.blocks(await texts.decode_page(data)))
    elif media_type == media.EPUB and (blocks := await books.chapter_blocks(data)):
        sections = office.block_sections(blocks)
    else:
        known = rich.with_notes(data) if media_type == media.RTF else data
        sections = _library_sections(await library.read_document(known, media_type), data, media_type)
    for section in sections:
        for segment in numbering.segments_of(section):
            yield segment


def _library_sections(document: Any, data: bytes, media_type: str) -> Iterator[Section]:
    if media_type in {media.EML, media.MSG}:
        return office.mail_sections(document, bodies.words(data, media_type))
    if found := office.own_slides(document, data, media_type):
        return iter(found)
    if media_type in media.SLIDES:
        return office.slide_sections(document)
    if media_type in media.SHEETS:
        return office.workbook_sections(document, data, media_type)
    if media_type == media.DOCX:
        return office.heading_sections(document, lambda layered: word.arranged(layered, data))
    return office.heading_sections(document)
