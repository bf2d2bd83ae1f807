"""Readers of things with pages: PDF, and images, whose frames are pages.

What has no text is read by OCR, or with `pictures` handed out as a picture, for others to read.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image, ImageOps

from services.process.extract import boxes, library, ocr, picture
from services.process.extract.sections import Numbering, Section, without_heading_marks
from shared.errors import UnprocessableContent
from shared.model import media
from shared.model.document import BoxSpan, Picture, Segment
from shared.model.locator import Locator, LocatorKind
from shared.model.text import storable

PAGES_PER_PART = 16
"""The library takes a whole file; it gets a PDF in parts of this size, so that no file fills the memory."""

_PARTS_PER_OPENING = 4
_open_pdf: Any = pypdfium2.PdfDocument  # it has no types
_IMAGE_OBJECT = 3
_PASSWORD_ERROR = 4
_POINTS_PER_INCH = 72
_OCR_DOTS_PER_INCH = 200
_MAX_PIXELS = 80_000_000
_TRAILER_BYTES = 2_048
_MAX_PART_BYTES = 64 * 1024 * 1024
# A stamp or a page number over a scan; a page of text has more.
_FEW_LETTERS = 60
_MAX_OBJECTS_LOOKED_AT = 2_000
_WORD = re.compile(r"[^\W\d_]{3,}")
# One in so many may differ, as hyphens at the ends of lines are read in two ways.
_STRANGE_WORDS = 8


def preload() -> None:
    """Load all formats of images; the usual ones first, so that they are tried in the same order as without this."""
    Image.preinit()
    Image.init()


async def read_pdf(path: Path, numbering: Numbering, *, pictures: bool) -> AsyncIterator[Segment]:
    """Yield one segment per page, with the boxes of its lines. Pages below the first one wanted are not read."""
    with _pdfium(path) as pdf:
        count = None if pdf is None else len(pdf)
    if count is None:
        for text in await _texts_without_pdfium(path):
            for segment in numbering.page_of(Section(text, _page(numbering.count + 1))):
                yield segment
        return
    if count > library.MAX_PAGES:
        raise library.too_many_pages(count)
    while numbering.skips_one():
        pass
    while numbering.count < count:
        # What pdfium has read of a file it keeps until the file is closed.
        with _pdfium(path) as pdf:
            for _ in range(_PARTS_PER_OPENING):
                if numbering.count < count:
                    async for segment in _read_part(pdf, count, numbering, pictures):
                        yield segment


async def _read_part(pdf: Any, count: int, numbering: Numbering, pictures: bool) -> AsyncIterator[Segment]:
    # Parts begin where they always begin, so that a successor sees what the first reader saw.
    first = numbering.count // PAGES_PER_PART * PAGES_PER_PART
    end = min(first + PAGES_PER_PART, count)
    printed = [index for index in range(first, end) if not _is_scanned(pdf, index)]
    texts: dict[int, str] = dict(zip(printed, await _texts(pdf, printed), strict=True))
    for index in range(numbering.count, end):
        text, page = texts.get(index), _page(index + 1)
        if text is not None:
            found = numbering.page_of(Section(text, page), boxes=_spans(pdf, index, text))
        else:
            image = _page_image(pdf, index, in_colour=pictures)
            read, shown = ("", None) if image is None else await _look_at(image, index + 1, pictures)
            found = numbering.page_of(Section(read, page), by_ocr=True, picture=shown)
        for segment in found:
            yield segment


async def read_image(path: Path, media_type: str, numbering: Numbering, *, pictures: bool) -> AsyncIterator[Segment]:
    """Yield one segment per frame of a TIFF, and one for any other image."""
    Image.MAX_IMAGE_PIXELS = None  # counted below, with a verdict instead of a warning
    try:
        with Image.open(path) as image:
            frames = int(getattr(image, "n_frames", 1)) if media_type == "image/tiff" else 1
            if frames > library.MAX_PAGES:
                raise library.too_many_pages(frames)
            for number in range(1, frames + 1):
                image.seek(number - 1)
                if image.width * image.height > _MAX_PIXELS:
                    raise UnprocessableContent(
                        f"The image has more than {_MAX_PIXELS // 1_000_000} million pixels; make it smaller.",
                        code="TOO_COMPLEX",
                    )
                if numbering.skips_one():
                    continue
                text, shown = await _look_at(_upright(image, in_colour=pictures), number, pictures)
                for segment in numbering.page_of(Section(text, _page(number)), by_ocr=True, picture=shown):
                    yield segment
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged images
        raise library.corrupt() from error


async def _look_at(image: Image.Image, number: int, pictures: bool) -> tuple[str, Picture | None]:
    """Return what OCR reads, or instead of it the picture, if there is anything to see."""
    if pictures:
        return "", picture.of(image)
    return await ocr.read(image, number=number), None


def _page(number: int) -> Locator:
    return Locator(kind=LocatorKind.PAGE, page=number)


async def _texts_without_pdfium(path: Path) -> list[str]:
    data = path.read_bytes()  # noqa: ASYNC240  # nothing else runs in the child
    if b"%%EOF" not in data[-_TRAILER_BYTES:]:
        # Text of a file that was cut off may be readable, but half a document must not pass for a whole one.
        raise library.corrupt()
    return _by_page(await library.read_document(data, media.PDF), 0)


def _by_page(document: Any, count: int) -> list[str]:
    pages = {int(page.page_number): _clean(str(page.content)) for page in document.pages or ()}
    return [pages.get(number, "") for number in range(1, max(count, *pages, 0) + 1)]


def _clean(text: str) -> str:
    return storable(without_heading_marks(text)).rstrip()


async def _texts(pdf: Any, indexes: list[int]) -> list[str]:
    """Return the texts of some pages: by the library, and where it fails by the plainer reader that forgives more."""
    if not indexes:
        return []
    plain = [_plain_text(pdf, index) for index in indexes]
    try:
        buffer = _Bounded()
        with closing(_open_pdf.new()) as part:
            part.import_pages(pdf, indexes)
            part.save(buffer)
        texts = _by_page(await library.read_document(buffer.getvalue(), media.PDF), len(indexes))
    except (UnprocessableContent, pypdfium2.PdfiumError, OverflowError):
        return plain
    return [_better(text, other) for text, other in zip(texts, plain, strict=False)]


def _better(text: str, plain: str) -> str:
    """Return the library's text, which keeps tables, unless it has scrambled words that the other reader sees whole."""
    known = set(_WORD.findall(plain))
    strange = [word for word in _WORD.findall(text) if word not in known]
    scrambled = any(line.startswith("|") and not known.issuperset(_WORD.findall(line)) for line in text.splitlines())
    return plain if not text or scrambled or len(strange) * _STRANGE_WORDS > len(known) else text


class _Bounded(io.BytesIO):
    """A buffer that refuses to hold more than one part of a file should have."""

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > _MAX_PART_BYTES:
            raise OverflowError
        return super().write(data)


def _plain_text(pdf: Any, index: int) -> str:
    try:
        with closing(pdf[index]) as page, closing(page.get_textpage()) as text:
            return storable(str(text.get_text_bounded())).replace("\r\n", "\n").strip()
    except pypdfium2.PdfiumError as error:
        raise library.corrupt() from error


def _spans(pdf: Any, index: int, text: str) -> tuple[BoxSpan, ...]:
    try:
        with closing(pdf[index]) as page, closing(page.get_textpage()) as text_page:
            return boxes.spans_of(text, page, text_page)
    except pypdfium2.PdfiumError:
        return ()


def _is_scanned(pdf: Any, index: int) -> bool:
    """Say whether a page shows something and its text says nothing of it."""
    try:
        with closing(pdf[index]) as page:
            with closing(page.get_textpage()) as text_page:
                letters = sum(map(str.isalnum, text_page.get_text_range(0, min(text_page.count_chars(), 1_000))))
            if letters >= _FEW_LETTERS:
                return False
            objects = list(itertools.islice(page.get_objects(max_depth=3), _MAX_OBJECTS_LOOKED_AT))
            if not letters:
                return bool(objects)
            width, height = page.get_size()
            images = [item.get_bounds() for item in objects if item.type == _IMAGE_OBJECT]
            covered = sum((right - left) * (top - bottom) for left, bottom, right, top in images)
            return bool(covered * 2 > width * height)
    except pypdfium2.PdfiumError:
        return False


def _page_image(pdf: Any, index: int, *, in_colour: bool) -> Image.Image | None:
    """Return a page as it is shown; None where that cannot be drawn."""
    try:
        with closing(pdf[index]) as page:
            width, height = (max(1.0, side) for side in page.get_size())
            scale = min(_OCR_DOTS_PER_INCH / _POINTS_PER_INCH, math.sqrt(ocr.MAX_PIXELS / (width * height)))
            scale = min(scale, ocr.MAX_SIDE_PIXELS / max(width, height))
            with closing(page.render(scale=scale)) as bitmap:
                image: Image.Image = bitmap.to_pil().convert("RGB" if in_colour else "L")
                return image
    except pypdfium2.PdfiumError:
        return None


def _upright(image: Image.Image, *, in_colour: bool) -> Image.Image:
    if image.format == "JPEG":
        image.draft("RGB", (ocr.MAX_SIDE_PIXELS, ocr.MAX_SIDE_PIXELS))
    turned = ImageOps.exif_transpose(image)
    if turned.mode in {"RGBA", "LA", "PA"} or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        paper = Image.new("RGBA", turned.size, "white")
        turned = Image.alpha_composite(paper, turned)
    if turned.mode.startswith("I"):  # sixteen bits: a plain conversion would cut off all but the darkest greys
        turned = turned.convert("I").point(lambda value: value * (1 / 256))
    turned = turned.convert("RGB" if in_colour and turned.mode not in {"1", "L", "I", "F"} else "L")
    scale = min(1.0, math.sqrt(ocr.MAX_PIXELS / (turned.width * turned.height)))
    side = min(ocr.MAX_SIDE_PIXELS, math.floor(scale * max(turned.size)))
    turned.thumbnail((side, side))
    return turned


@contextmanager
def _pdfium(path: Path) -> Iterator[Any]:
    """Open a file, which is read as it is needed; None when it cannot be."""
    try:
        pdf = _open_pdf(path)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR:
            raise library.encrypted() from error
        yield None
        return
    try:
        yield pdf
    finally:
        pdf.close()
