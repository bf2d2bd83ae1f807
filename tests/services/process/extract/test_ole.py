"""Compound files are read for what the library does not tell, and no damage makes that endless or wrong."""

import random
import struct
from pathlib import Path

import pytest

from services.process.extract import ppt, xls
from services.process.extract.extractor import ChildExtractor
from services.process.extract.ole import Compound, OleError
from shared.errors import UnprocessableContent
from shared.model import media

FILES = Path(__file__).parents[3] / "files"
OLD = sorted(path for kind in ("xls", "ppt", "msg") for path in (FILES / kind).iterdir())


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name)
def test_streams_are_found_by_name(path: Path) -> None:
    """Whoever wrote the file, its streams are as long as the directory says."""
    compound = Compound(path.read_bytes())
    streams = [entry for entry in compound.entries().values() if entry.is_stream]
    assert streams
    assert all(len(compound.read(entry)) == entry.size_bytes for entry in streams)


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.name)
def test_damage_is_an_error_or_nothing_and_soon(path: Path) -> None:
    """Cut off, or with tables that point at themselves: the readers end, and raise only what they say."""
    data, chance = path.read_bytes(), random.Random(5)
    for _ in range(40):
        damaged = bytearray(data[: chance.randrange(1, len(data))] if chance.random() < 0.3 else data)
        for _ in range(chance.randrange(1, 30)):
            at = chance.randrange(0, max(1, min(len(damaged) - 4, 4096)))
            damaged[at : at + 4] = struct.pack("<I", chance.choice([0, 1, 2, 0xFFFFFFFE, chance.randrange(200)]))
        assert isinstance(xls.corners(bytes(damaged)), dict)
        assert isinstance(ppt.slides(bytes(damaged)), list)
        try:
            compound = Compound(bytes(damaged))
            for entry in compound.entries().values():
                assert len(compound.read(entry)) <= len(damaged) + 4096
        except OleError:
            pass


async def test_a_workbook_for_which_the_library_gives_up_is_refused(tmp_path: Path) -> None:
    """One changed byte makes it ask for 500 GB and abort; that is a verdict on the file, not a dead worker."""
    data = bytearray((FILES / "xls" / "xlwt.xls").read_bytes())
    data[1720] = 0xA9
    (tmp_path / "a.xls").write_bytes(data)
    async with ChildExtractor(work_dir=tmp_path) as extractor:
        with pytest.raises(UnprocessableContent) as caught:
            async for _ in extractor.extract(tmp_path / "a.xls", media_type=media.XLS):
                pass
    assert caught.value.code == "TOO_COMPLEX"


def test_a_chain_that_is_a_circle_ends() -> None:
    """No stream is longer than the file, whatever its table of sectors says."""
    data = bytearray((FILES / "xls" / "libreoffice.xls").read_bytes())
    (table,) = struct.unpack_from("<I", data, 76)
    at = (table + 1) * 512
    data[at : at + 512] = struct.pack("<128I", *([0] * 128))
    try:
        compound = Compound(bytes(data))
        assert all(len(compound.read(entry)) <= len(data) for entry in compound.entries().values())
    except OleError:
        pass
