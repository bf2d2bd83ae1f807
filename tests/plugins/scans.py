"""Scanned pages that a stand-in for a model can tell apart: each shows as many bars as its number says."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image, ImageDraw

_BAR, _GAP, _MARGIN, _WIDTH = 24, 16, 40, 400


def page(number: int, *, mode: str = "RGB") -> Image.Image:
    """Draw a page with so many bars across it."""
    image = Image.new("RGB", (_WIDTH, 2 * _MARGIN + 12 * (_BAR + _GAP)), "white")
    draw = ImageDraw.Draw(image)
    for bar in range(number):
        top = _MARGIN + bar * (_BAR + _GAP)
        draw.rectangle((_MARGIN, top, _WIDTH - _MARGIN, top + _BAR), fill=(20, 40, 90))
    return image.convert(mode)


def file(kind: str, numbers: Sequence[int]) -> bytes:
    """Return pages as a file: `pdf` and `tiff` of many, all other kinds of one."""
    first, *others = (page(number) for number in numbers)
    buffer = io.BytesIO()
    if others:
        first.save(buffer, kind.upper(), save_all=True, append_images=others)
    else:
        first.save(buffer, kind.upper())
    return buffer.getvalue()


def bars(picture: bytes) -> int:
    """Return the number of the page in a picture of it, of whatever size and kind."""
    with Image.open(io.BytesIO(picture)) as image:
        column = image.convert("L").resize((3, image.height)).crop((1, 0, 2, image.height))
        dark = [value < 128 for value in column.tobytes()]
    return sum(now and not before for before, now in zip([False, *dark], dark, strict=False))
