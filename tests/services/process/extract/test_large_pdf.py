"""A PDF of 2,000 pages passes through without ever being in memory as a whole."""

import asyncio
import contextlib
import zlib
from pathlib import Path

import psutil
import pytest

from services.process.extract.extractor import ChildExtractor
from shared.model import media
from tests.services.process.extract.processes import children

PAGES = 2_000
PAGE_NOISE_BYTES = 40_000


def written(path: Path, pages: int) -> Path:
    """Write a PDF with a paragraph on each page, and on each 40 KB that do not compress, as pictures would be."""
    import random

    source = random.Random(7)
    offsets: list[int] = []
    with path.open("wb") as file:
        file.write(b"%PDF-1.4\n")

        def put(body: bytes) -> None:
            offsets.append(file.tell())
            file.write(b"%d 0 obj\n%b\nendobj\n" % (len(offsets), body))

        kids = b" ".join(b"%d 0 R" % (4 + 3 * number) for number in range(pages))
        put(b"<</Type/Catalog/Pages 2 0 R>>")
        put(b"<</Type/Pages/Count %d/Kids[%b]>>" % (pages, kids))
        put(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
        for number in range(pages):
            lines = [
                f"Page {number + 1}: the turbine of line {line} turns {source.randrange(999)} times."
                for line in range(30)
            ]
            text = (
                "BT /F 11 Tf 14 TL 60 780 Td "
                + " ".join(f"({line}) Tj T*" for line in lines)
                + " ET q 9 0 0 9 0 0 cm /I Do Q"
            )
            content, noise = zlib.compress(text.encode()), source.randbytes(PAGE_NOISE_BYTES)
            put(
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R"
                b"/Resources<</Font<</F 3 0 R>>/XObject<</I %d 0 R>>>>>>" % (5 + 3 * number, 6 + 3 * number)
            )
            put(b"<</Length %d/Filter/FlateDecode>>\nstream\n%b\nendstream" % (len(content), content))
            put(
                b"<</Type/XObject/Subtype/Image/Width 200/Height 200/BitsPerComponent 8/ColorSpace/DeviceGray"
                b"/Length %d>>\nstream\n%b\nendstream" % (len(noise), noise)
            )
        start = file.tell()
        table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        file.write(b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(offsets) + 1, table))
        file.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, start))
    return path


class Peaks:
    """The most resident memory of this process and of all its readers together, looked at between pages."""

    def __init__(self) -> None:
        self.here = self.readers = 0

    def look(self) -> None:
        """Look once."""
        self.here = max(self.here, psutil.Process().memory_info().rss)
        together = 0
        for pid in children():
            with contextlib.suppress(psutil.NoSuchProcess):
                together += psutil.Process(pid).memory_full_info().uss
        self.readers = max(self.readers, together)


async def read(path: Path, peaks: Peaks) -> int:
    """Read a file page by page and keep nothing; return the number of pages."""
    count = 0
    async with ChildExtractor(deadline_seconds=500) as extractor:
        async with contextlib.aclosing(extractor.extract(path, media_type=media.PDF)) as segments:
            async for segment in segments:
                count += 1
                assert f"Page {count}:" in segment.text
                assert segment.boxes
                if count % 10 == 0:
                    await asyncio.to_thread(peaks.look)
    return count


@pytest.mark.slow
async def test_two_thousand_pages_need_the_memory_of_fifty(tmp_path: Path) -> None:
    """Neither the service nor its readers grow with a file of 80 MB; the pages come as they are read."""
    short, long = written(tmp_path / "short.pdf", 50), written(tmp_path / "long.pdf", PAGES)
    assert long.stat().st_size > 80_000_000
    before, after = Peaks(), Peaks()
    assert await read(short, before) == 50
    assert await read(long, after) == PAGES
    assert after.here - before.here < 30_000_000
    assert after.readers - before.readers < 40_000_000
    assert after.readers < 300_000_000
