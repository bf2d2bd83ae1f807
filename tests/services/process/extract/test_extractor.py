"""Files become segments with true places, or one verdict; and no process, folder or open file stays behind."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from services.process.extract.extractor import ChildExtractor
from shared.errors import HeadraceError, UnprocessableContent, WorkerCrashed
from shared.model import media
from shared.model.document import Segment
from shared.model.locator import LocatorKind

CORPUS = Path(__file__).parents[4] / "cli" / "corpus"
ENCRYPTED = Path(__file__).parents[3] / "fixtures" / "encrypted.pdf"
MANUAL = CORPUS / "operations-manual.pdf"


def children() -> set[int]:
    """Return the extractor's processes that this one has started and that are not reaped (others run servers here)."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE or "services.process.extract.child" in child.cmdline():
                found.add(child.pid)
    return found


def open_files() -> int:
    """Return how many file descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor and check at the end that nothing of it is left."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    before, files = children(), open_files()
    async with ChildExtractor(work_dir=work_dir, deadline_seconds=60) as extractor:
        yield extractor
    assert children() <= before
    assert list(work_dir.iterdir()) == []
    assert open_files() <= files


async def read(extractor: ChildExtractor, path: Path, start: int = 0) -> list[Segment]:
    """Sniff and read a whole file."""
    media_type = extractor.sniff(path, name=path.name)
    return [segment async for segment in extractor.extract(path, media_type=media_type, start=start)]


async def collect(segments: AsyncIterator[Segment]) -> list[Segment]:
    """Read to the end."""
    return [segment async for segment in segments]


def fake_python(folder: Path, code: str) -> Path:
    """Write a program that stands in for the interpreter and does something else."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o700)
    return path


async def verdict(extractor: ChildExtractor, path: Path, media_type: str | None = None) -> str:
    """Return the code with which a file is refused, and check that its sentence is for people."""
    with pytest.raises(HeadraceError) as caught:
        async for _ in extractor.extract(path, media_type=media_type or extractor.sniff(path, name=path.name)):
            pass
    assert "Traceback" not in caught.value.message
    assert caught.value.message.endswith(".")
    return caught.value.code


async def test_a_pdf_has_one_segment_per_page(extractor: ChildExtractor) -> None:
    """Pages count from 1, segments from 0, and the text is that of the page."""
    segments = await read(extractor, MANUAL)
    assert [(s.index, s.locator.page) for s in segments] == [(number, number + 1) for number in range(7)]
    assert "closes in 75 seconds" in " ".join(segments[2].text.split())


async def test_a_successor_gets_the_same_segments_from_where_it_starts(extractor: ChildExtractor) -> None:
    """Reading from index 4 gives the end of what reading from 0 gives."""
    assert await read(extractor, MANUAL, start=4) == (await read(extractor, MANUAL))[4:]


async def test_documents_are_cited_by_heading(extractor: ChildExtractor) -> None:
    """Word, HTML and Markdown give a section per heading, with the path to it; tables stay tables."""
    paths = {s.locator.heading_path: s.text for s in await read(extractor, CORPUS / "maintenance-schedule.docx")}
    assert "| Test the overspeed switch | every 6 months |" in paths[("Turbines", "Regular tasks")]
    page = {s.locator.label for s in await read(extractor, CORPUS / "water-licence.html")}
    assert "Water licence, summary for operators › Reservoir levels › Flushing of sediment" in page
    faults = [s.locator.label for s in await read(extractor, CORPUS / "turbine-faults.md")]
    assert "Turbine fault guide › Governor › Hunting" in faults


async def test_a_heading_without_text_begins_the_section_below_it(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Nothing is lost: the bare heading is in the text of its first child, or alone when it has none."""
    path = tmp_path / "a.md"
    path.write_text("# Top\n\n## Inner\n\nwords\n\n# Last\n")
    assert [(s.locator.label, s.text) for s in await read(extractor, path)] == [
        ("Top › Inner", "Top\n\nInner\n\nwords"),
        ("Last", "Last"),
    ]


async def test_slides_have_numbers_and_notes(extractor: ChildExtractor) -> None:
    """Slide 5 is the one about fire, and what the speaker says about it is there."""
    fire = (await read(extractor, CORPUS / "safety-induction.pptx"))[4]
    assert (fire.locator.kind, fire.locator.slide) == (LocatorKind.SLIDE, 5)
    assert fire.text.startswith("Fire in the powerhouse")
    assert "Notes: After carbon dioxide" in fire.text


async def test_sheets_have_true_cell_ranges(extractor: ChildExtractor) -> None:
    """The first sheet's table begins at B3, and the range says so."""
    parts, generation = await read(extractor, CORPUS / "spare-parts.xlsx")
    assert parts.locator.label == "sheet Spare parts, B3:I23"
    assert generation.locator.label == "sheet Generation 2025, A1:F13"
    assert parts.text.splitlines()[0].startswith("| Part number | Description |")


async def test_long_tables_come_in_parts_under_their_header(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A CSV file of 450 rows is three segments, each with the header line and the range of its own rows."""
    path = tmp_path / "a.csv"
    path.write_text("name;value\n" + "".join(f"row {number};{number}\n" for number in range(2, 452)))
    segments = await read(extractor, path)
    assert [s.locator.cells for s in segments] == ["A1:B201", "A202:B401", "A402:B451"]
    assert all(s.text.startswith("| name | value |\n") for s in segments)
    assert "| row 202 | 202 |" in segments[1].text


async def test_wide_rows_come_in_shorter_parts(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Rows of a thousand characters do not lose their header, because fewer of them share a segment."""
    path = tmp_path / "a.csv"
    path.write_text("name,text\n" + "".join(f"row {number},{'word ' * 200}\n" for number in range(2, 102)))
    segments = await read(extractor, path)
    assert len(segments) > 3
    assert all(s.text.startswith("| name | text |\n") for s in segments)
    assert segments[1].text.splitlines()[2].startswith(f"| {'row ' + (segments[1].locator.cells or '')[1:3]} |")


@pytest.mark.parametrize(
    "data", ["Grüße\nzwei".encode("latin-1"), "Grüße\nzwei".encode("utf-16"), "Grüße\nzwei\x00".encode("utf-8-sig")]
)
async def test_plain_text_is_decoded_and_cited_by_character(
    extractor: ChildExtractor, tmp_path: Path, data: bytes
) -> None:
    """The encoding is recognised, lines stay lines, and what cannot be stored is gone."""
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    (segment,) = [s async for s in extractor.extract(path, media_type=media.TEXT)]
    assert segment.text == "Grüße\nzwei"
    assert segment.locator.label == "characters 0–10"


async def test_a_long_text_is_cut_and_its_offsets_go_on(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Segments stay small, and together they are the file."""
    text = "".join(f"Line {number} of a long file.\n" for number in range(12_000)).rstrip()
    path = tmp_path / "a.txt"
    path.write_text(text)
    segments = await read(extractor, path)
    assert len(segments) > 2
    assert all(text[s.locator.start_char : s.locator.end_char] == s.text for s in segments)
    assert "".join(s.text for s in segments) == text


async def test_words_in_a_picture_are_read(extractor: ChildExtractor, tmp_path: Path) -> None:
    """OCR reads an image, also one called .pdf, and a scanned page of a PDF."""
    (sign,) = await read(extractor, CORPUS / "control-room-sign.png")
    assert "extension 7702" in sign.text
    renamed, scan = tmp_path / "a.pdf", tmp_path / "scan.pdf"
    renamed.write_bytes((CORPUS / "control-room-sign.png").read_bytes())
    assert await read(extractor, renamed) == [sign]
    with Image.open(renamed) as image:
        image.convert("RGB").save(scan)
    (page,) = await read(extractor, scan)
    assert "extension 7702" in page.text
    assert page.locator.page == 1


async def test_damaged_files_are_refused_as_such(extractor: ChildExtractor, tmp_path: Path) -> None:
    """Half a file of each kind ends as corrupt, and never as a success."""
    for name in ("operations-manual.pdf", "maintenance-schedule.docx", "spare-parts.xlsx", "control-room-sign.png"):
        data = (CORPUS / name).read_bytes()
        half = tmp_path / name
        half.write_bytes(data[: len(data) // 2])
        media_type = extractor.sniff(CORPUS / name, name=name)
        assert await verdict(extractor, half, media_type) == "CORRUPT", name


async def test_files_without_text_are_refused(extractor: ChildExtractor, tmp_path: Path) -> None:
    """0 bytes are empty; a white picture, white space and hollow HTML hold no text."""
    empty, white, spaces, hollow = (tmp_path / name for name in ("a.txt", "a.png", "b.txt", "a.html"))
    empty.write_bytes(b"")
    Image.new("RGB", (200, 200), "white").save(white)
    spaces.write_text(" \n\n ")
    hollow.write_text("<div>" * 200_000 + "x")
    assert await verdict(extractor, empty, media.TEXT) == "EMPTY"
    assert await verdict(extractor, white) == "NO_TEXT"
    assert await verdict(extractor, spaces) == "NO_TEXT"
    assert await verdict(extractor, hollow, media.HTML) == "NO_TEXT"


async def test_an_encrypted_pdf_is_refused_as_such(extractor: ChildExtractor) -> None:
    """A password is asked for by name, not called damage."""
    assert await verdict(extractor, ENCRYPTED) == "ENCRYPTED"


async def test_a_picture_of_too_many_pixels_is_refused(extractor: ChildExtractor, tmp_path: Path) -> None:
    """A small file that would unfold into gigabytes of pixels is not unfolded."""
    path = tmp_path / "a.png"
    Image.new("1", (12_000, 12_000)).save(path)
    assert await verdict(extractor, path) == "TOO_COMPLEX"


@pytest.mark.parametrize(
    "limits",
    [{"deadline_seconds": 0.0}, {"memory_limit_bytes": 30 * 1024 * 1024}, {"max_text_bytes": 2_000}],
    ids=["time", "memory", "text"],
)
async def test_every_limit_ends_the_file(tmp_path: Path, limits: dict[str, int]) -> None:
    """Too long, too much memory and too much text are verdicts on the file, and the child is gone."""
    before = children()
    async with ChildExtractor(work_dir=tmp_path, **limits) as extractor:
        assert await verdict(extractor, MANUAL) == "TOO_COMPLEX"
    assert children() <= before
    assert not os.listdir(tmp_path)  # noqa: PTH208


async def test_a_killed_child_is_not_the_files_fault(extractor: ChildExtractor, tmp_path: Path) -> None:
    """When somebody kills the child, the error is retryable, and the next file is read."""
    path = tmp_path / "a.txt"
    path.write_text("More lines than the pipe can hold.\n" * 200_000)
    async with contextlib.aclosing(extractor.extract(path, media_type=media.TEXT)) as segments:
        await anext(segments)
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await collect(segments)
    assert len(await read(extractor, MANUAL)) == 7


async def test_leaving_early_ends_the_child_at_once(extractor: ChildExtractor) -> None:
    """A consumer that closes the iterator leaves only the spare child."""
    async with contextlib.aclosing(extractor.extract(MANUAL, media_type=media.PDF)) as segments:
        await anext(segments)
        assert len(children()) == 2
    assert len(children()) == 1


async def test_cancelling_the_consumer_ends_the_child(extractor: ChildExtractor) -> None:
    """A consumer that is cancelled between two segments is done only when its child is reaped."""
    started = asyncio.Event()

    async def consume() -> None:
        async with contextlib.aclosing(extractor.extract(MANUAL, media_type=media.PDF)) as segments:
            await anext(segments)
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(children()) == 1


async def test_a_child_that_hangs_is_killed_when_the_reader_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that waits for a child which never answers can be cancelled, and takes the child with it."""
    monkeypatch.setattr(sys, "executable", str(fake_python(tmp_path, "import time; time.sleep(600)")))
    before = children()
    async with ChildExtractor(work_dir=tmp_path) as hanging:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await read(hanging, MANUAL)
        assert len(children() - before) <= 1
    assert children() <= before


async def test_many_files_are_read_at_once(extractor: ChildExtractor) -> None:
    """Files that are read at the same time do not mix."""
    names = ["operations-manual.pdf", "turbine-faults.md", "spare-parts.xlsx", "shift-log.txt"]
    together = await asyncio.gather(*(read(extractor, CORPUS / name) for name in names))
    assert together == [await read(extractor, CORPUS / name) for name in names]


@pytest.mark.parametrize("noise", [b"\0\0\0\5hello" * 9, b"\xff" * 9, b"\0\0\0\2{}", b"\0\0\0\x10{}", b""])
async def test_garbage_from_the_child_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: bytes) -> None:
    """A child that says nonsense, stops in the middle or says nothing is killed, and the file is tried again."""
    code = f"import sys; sys.stdout.buffer.write({noise!r})"
    monkeypatch.setattr(sys, "executable", str(fake_python(tmp_path, code)))
    async with ChildExtractor(work_dir=tmp_path) as broken:
        with pytest.raises(WorkerCrashed):
            await read(broken, MANUAL)


async def test_children_die_with_their_parent(tmp_path: Path) -> None:
    """When the whole service is killed in the middle of a file, its children do not live on."""
    code = (
        "import asyncio, os, psutil, sys\n"
        "from pathlib import Path\n"
        "from services.process.extract.extractor import ChildExtractor\n"
        "async def main():\n"
        "    async with ChildExtractor(work_dir=Path(sys.argv[2])) as extractor:\n"
        "        await anext(extractor.extract(Path(sys.argv[1]), media_type='application/pdf'))\n"
        "        print(*[child.pid for child in psutil.Process().children()], flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[4]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(MANUAL), str(tmp_path), cwd=root, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    orphans = []
    for pid in output.split():
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already
            orphans.append(psutil.Process(int(pid)))
    assert len(output.split()) == 2
    _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, timeout=10)
    assert alive == []


async def test_the_child_sees_no_secrets(extractor: ChildExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent's environment, with its keys and addresses, is not handed down."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    await read(extractor, CORPUS / "shift-log.txt")
    assert children()
    assert all("DATABASE_URL" not in psutil.Process(pid).environ() for pid in children())


async def test_an_unknown_type_is_refused(extractor: ChildExtractor) -> None:
    """A type that nobody reads is a verdict, not a crash."""
    with pytest.raises(UnprocessableContent):
        async for _ in extractor.extract(MANUAL, media_type="application/x-nothing"):
            pass
