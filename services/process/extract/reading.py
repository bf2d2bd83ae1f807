"""Pages that a model is to read, handed out as pictures; all text goes the usual way.

An image that the model takes as it is goes there as it is: nothing of it is decoded outside the child process. Pages
without text, and images of other kinds or sizes, are turned into pictures of bounded size in the child.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Protocol

from shared.model.document import Picture, Segment
from shared.model.locator import Locator, LocatorKind
from shared.ports.models import Extractor, ImageReader


class PictureExtractor(Extractor, Protocol):
    """An extractor that can leave the reading of pictures to others."""

    def extract(
        self, path: Path, *, media_type: str, start: int = 0, pictures: bool = False
    ) -> AsyncGenerator[Segment, None]:
        """Yield segments; with `pictures`, those of pages without text have a picture instead."""
        ...


class PicturesFirst:
    """`Extractor` whose segments have a picture wherever a model is to read one."""

    def __init__(self, extractor: PictureExtractor, reader: ImageReader) -> None:
        """Take what reads files, and the model, which is only asked what it takes."""
        self._extractor, self._reader = extractor, reader

    def sniff(self, path: Path, *, name: str) -> str:
        """Return the media type by the bytes, as the other extractor does."""
        return self._extractor.sniff(path, name=name)

    async def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file; of an image, one.

        Raises:
            HeadraceError: what the other extractor raises.
        """
        size_bytes = (await asyncio.to_thread(path.stat)).st_size
        if not self._reader.takes(media_type, size_bytes=size_bytes):
            segments = self._extractor.extract(path, media_type=media_type, start=start, pictures=True)
            async with aclosing(segments):
                async for segment in segments:
                    yield segment
        elif start == 0:
            data = await asyncio.to_thread(path.read_bytes)
            yield Segment(
                index=0,
                text="",
                locator=Locator(kind=LocatorKind.PAGE, page=1),
                by_ocr=True,
                picture=Picture(data, media_type),
            )
