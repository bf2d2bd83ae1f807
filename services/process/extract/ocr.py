"""Pictures into text, within bounds of time and size, whichever way up they lie."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from PIL import Image

from services.process.extract import library
from shared.errors import UnprocessableContent

MAX_PIXELS = 8_000_000
"""What is larger is made smaller first: an A4 page at 290 dots per inch, a photo of 8 megapixels."""

MAX_SIDE_PIXELS = 6_000
PAGE_SECONDS = 90.0
"""How long one page may take, in all the ways it is turned; two to five seconds are usual on an idle core."""

_WORD = re.compile(r"[^\W\d_]{3,}")
_SURE_SHARE = 0.5
_MIN_CONTRAST = 24
_TURNS = (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180)


async def read(image: Image.Image, *, number: int) -> str:
    """Return the text of a picture; empty when there is none. A picture that lies on its side is turned.

    Raises:
        UnprocessableContent: `TOO_COMPLEX`, page `number` takes too long.
    """
    try:
        async with asyncio.timeout(PAGE_SECONDS):
            if is_blank(image):
                return ""
            texts = [await library.read_image(image)]
            for turn in _TURNS:
                if _share_of_words(texts[-1]) >= _SURE_SHARE:
                    break
                texts.append(await library.read_image(image.transpose(turn)))
    except TimeoutError:
        raise UnprocessableContent(
            f"Page {number} takes more than {PAGE_SECONDS:.0f} seconds to read by OCR; scan it anew.",
            code="TOO_COMPLEX",
        ) from None
    return max(texts, key=_letters_in_words)


def is_blank(image: Image.Image) -> bool:
    """Say whether all of a picture is about equally dark."""
    extremes: Any = image.convert("L").getextrema()  # of one band: two numbers
    darkest, lightest = extremes
    return bool(lightest - darkest < _MIN_CONTRAST)


def _letters_in_words(text: str) -> int:
    return sum(map(len, _WORD.findall(text)))


def _share_of_words(text: str) -> float:
    """Return how much of a text is words of three letters or more: little when it was read from the side."""
    return _letters_in_words(text) / max(1, len("".join(text.split())))
