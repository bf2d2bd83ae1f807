"""Readers of things with pages: PDF, and images, whose frames are pages. What has no text is read by OCR."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pypdfium2
from PIL import Image, ImageOps

from services.process.extract import library
from services.process.extract.sections import Numbering, Section, without_heading_marks
from shared.errors import UnprocessableContent
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind

_open_pdf: Any = pypdfium2.PdfDocument  # it has no types
_PASSWORD_ERROR = 4
_POINTS_PER_INCH = 72
_OCR_DOTS_PER_INCH = 200
_MAX_PIXELS = 80_000_000
_MAX_OCR_SIDE_PIXELS = 4_500
_TRAILER_BYTES = 2_048


def preload() -> None:
    """Load all formats of images; the usual ones first, so that they are tried in the same order as without this."""
    Image.preinit()
    Image.init()


async def read_pdf(path: Path, numbering: Numbering) -> AsyncIterator[Segment]:
    """Yield one segment per page, also for an empty one, so that a page's index is known without reading it."""
    data = path.read_bytes()  # noqa: ASYNC240  # nothing else runs in the child
    with _pdfium(data) as pdf:
        if pdf is not None and len(pdf) > library.MAX_PAGES:
            raise library.too_many_pages(len(pdf))
        if pdf is None and b"%%EOF" not in data[-_TRAILER_BYTES:]:
            # Text of a file that was cut off may be readable, but half a document must not pass for a whole one.
            raise library.corrupt()
        texts = await _page_texts(data, pdf)
        for number, text in enumerate(texts, 1):
            locator = Locator(kind=LocatorKind.PAGE, page=number)
            scanned = pdf is not None and number <= len(pdf) and not text.strip()
            if scanned and numbering.skips_one():
                continue
            if scanned and pdf is not None:
                text = await _read_page_image(pdf, number)  # noqa: PLW2901  # the same page, read another way
            for segment in numbering.segments_of(Section(text, locator), keep_empty=True):
                yield segment


async def read_image(path: Path, media_type: str, numbering: Numbering) -> AsyncIterator[Segment]:
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
                text = await library.read_image(_upright(image))
                section = Section(text, Locator(kind=LocatorKind.PAGE, page=number))
                for segment in numbering.segments_of(section, keep_empty=True):
                    yield segment
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged images
        raise library.corrupt() from error


async def _page_texts(data: bytes, pdf: Any) -> list[str]:
    try:
        document = await library.read_document(data, media.PDF)
    except UnprocessableContent as verdict:
        if pdf is None or verdict.code != "CORRUPT":
            raise
        # The second opinion: a plainer reader that forgives more.
        try:
            return [_plain_text(pdf, index) for index in range(len(pdf))]
        except pypdfium2.PdfiumError:
            raise verdict from None
    pages = {int(page.page_number): without_heading_marks(str(page.content)) for page in document.pages or ()}
    count = max(len(pdf) if pdf is not None else 0, *pages, 0)
    return [pages.get(number, "") for number in range(1, count + 1)]


def _plain_text(pdf: Any, index: int) -> str:
    with closing(pdf[index]) as page, closing(page.get_textpage()) as text:
        return str(text.get_text_bounded())


async def _read_page_image(pdf: Any, number: int) -> str:
    """Read a page without a text layer; a page with nothing drawn on it is not rendered."""
    try:
        with closing(pdf[number - 1]) as page:
            if next(iter(page.get_objects(max_depth=1)), None) is None:
                return ""
            scale = min(_OCR_DOTS_PER_INCH / _POINTS_PER_INCH, _MAX_OCR_SIDE_PIXELS / max(1.0, *page.get_size()))
            with closing(page.render(scale=scale)) as bitmap:
                image = bitmap.to_pil().convert("RGB")
    except pypdfium2.PdfiumError:
        return ""
    return await library.read_image(image)


def _upright(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    if turned.mode in {"RGBA", "LA", "PA"} or "transparency" in turned.info:
        turned = turned.convert("RGBA")
        paper = Image.new("RGBA", turned.size, "white")
        turned = Image.alpha_composite(paper, turned)
    turned = turned.convert("RGB")
    turned.thumbnail((_MAX_OCR_SIDE_PIXELS, _MAX_OCR_SIDE_PIXELS))
    return turned


@contextmanager
def _pdfium(data: bytes) -> Iterator[Any]:
    """Open with the second reader; None when it cannot."""
    try:
        pdf = _open_pdf(data)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR:
            raise library.encrypted() from error
        yield None
        return
    try:
        yield pdf
    finally:
        pdf.close()
