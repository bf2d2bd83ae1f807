"""Pages into pictures that a model can be asked about: bounded, upright, and none of a page on which nothing is."""

from __future__ import annotations

import io

from PIL import Image

from services.process.extract import ocr
from shared.model.document import Picture

MAX_BYTES = 2 * 1024 * 1024
"""A page in a frame to the parent, and in a request to the model; a third more once it is encoded."""

MAX_PIXELS = 4_000_000
"""An A4 page at 200 dots per inch; models that read images make larger ones smaller themselves."""

MAX_SIDE_PIXELS = 3_072

_FEW_COLOURS = 16
_QUALITIES = (90, 75, 50)


def of(image: Image.Image) -> Picture | None:
    """Return a page's picture, PNG for line art and JPEG for all else; None when the page is blank."""
    if ocr.is_blank(image):
        return None
    image = _within_bounds(image)
    if image.getcolors(_FEW_COLOURS) is not None and len(data := _encoded(image, "PNG")) <= MAX_BYTES:
        return Picture(data, "image/png")
    while True:
        for quality in _QUALITIES:
            if len(data := _encoded(image, "JPEG", quality=quality)) <= MAX_BYTES:
                return Picture(data, "image/jpeg")
        image = image.reduce(2)  # noise: no scan of a page comes here


def _within_bounds(image: Image.Image) -> Image.Image:
    scale = min(1.0, (MAX_PIXELS / (image.width * image.height)) ** 0.5, MAX_SIDE_PIXELS / max(image.size))
    if scale == 1.0:
        return image
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _encoded(image: Image.Image, kind: str, *, quality: int = 0) -> bytes:
    buffer = io.BytesIO()
    if kind == "PNG":
        image.save(buffer, kind)
    else:
        image.save(buffer, kind, quality=quality)
    return buffer.getvalue()
