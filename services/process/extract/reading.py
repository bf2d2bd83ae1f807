"""Images read by a model instead of OCR, where there is one; every other file goes the usual way.

The bytes of an image go to the model as they are: nothing of it is decoded outside the child process. Scanned pages of
other files, and images of kinds or sizes that the model does not take, are read in the child, by OCR.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from shared.errors import UnprocessableContent
from shared.model.document import Segment
from shared.model.locator import Locator, LocatorKind
from shared.ports.models import Extractor, ImageReader, Reading


class ReadingExtractor:
    """`Extractor` that asks a model about images, if it is given one."""

    def __init__(self, extractor: Extractor, reader: ImageReader | None) -> None:
        """Take what reads all other files, and the model."""
        self._extractor, self._reader = extractor, reader

    def sniff(self, path: Path, *, name: str) -> str:
        """Return the media type by the bytes, as the other extractor does."""
        return self._extractor.sniff(path, name=name)

    async def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file; of an image, one: what is written there, and then what is to be seen.

        Raises:
            HeadraceError: what the other extractor or the model raises; `NO_TEXT` for an image of nothing.
        """
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if self._reader is None or not self._reader.takes(media_type, size_bytes=size_bytes):
            async with aclosing(self._extractor.extract(path, media_type=media_type, start=start)) as segments:
                async for segment in segments:
                    yield segment
            return
        if start > 0:
            return  # there is one, and it is stored: nothing is paid twice
        image = await asyncio.to_thread(path.read_bytes)
        text = _text_of(await self._reader.read(image, media_type=media_type))
        if not text:
            raise UnprocessableContent("The model sees nothing in the image that could be found.", code="NO_TEXT")
        yield Segment(index=0, text=text, locator=Locator(kind=LocatorKind.PAGE, page=1))


def _text_of(reading: Reading) -> str:
    return "\n\n".join(part for part in (reading.text, reading.description) if part)
