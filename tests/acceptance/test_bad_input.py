"""Files that are broken, locked or not what they say: a clear end after one attempt, and a worker that stays slim."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from PIL import Image

from services.ingest.app import build as build_ingest
from services.ingest.settings import IngestSettings
from services.process.app import build as build_process
from services.process.settings import ProcessSettings
from shared.events.catalogue import DeadLettered
from shared.events.envelope import read
from tests.plugins.stack import ROOT, Site, eventually

CORPUS = ROOT / "cli" / "corpus"
ENCRYPTED = ROOT / "tests" / "fixtures" / "encrypted.pdf"


def half_a_pdf() -> bytes:
    """Cut a PDF in the middle."""
    whole = (CORPUS / "operations-manual.pdf").read_bytes()
    return whole[: len(whole) // 2]


BAD: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "empty.txt": (lambda: b"", {"EMPTY"}),
    "half.pdf": (half_a_pdf, {"CORRUPT"}),
    "locked.pdf": (ENCRYPTED.read_bytes, {"ENCRYPTED"}),
}


async def test_unreadable_files_fail_once_with_a_code_and_a_sentence(site: Site) -> None:
    """One attempt each; a dead letter in the list, and its message for people on `dead-letters-inspect`."""
    letters: dict[str, DeadLettered] = {}
    async with (
        site.service(build_ingest, IngestSettings),
        site.service(build_process, ProcessSettings),
        site.subscriber("dead-letters-inspect") as take,
    ):
        for name, (content, _) in BAD.items():
            await site.upload(name, content())
        jobs = await site.ended(*BAD)

        async def look() -> bool:
            for message in await take():
                letter = read(DeadLettered, message.data, message.attributes)
                letters[str(letter.job_id)] = letter
            return len(letters) == len(BAD)

        await eventually(look)
    for job in jobs:
        _, codes = BAD[job["name"]]
        assert (job["status"], job["processing_stage"], job["attempts"]) == ("failed", "failed", 1)
        assert job["error_code"] in codes
        assert is_a_sentence(job["error_message"]), job["error_message"]
        (row,) = await site.rows("select * from dead_letters where job_id = $1", job["id"])
        assert (row["origin"], row["state"], row["failures"]) == ("job", "open", 1)
        assert (row["code"], row["message"]) == (job["error_code"], job["error_message"])
        letter = letters[str(job["id"])]
        assert (letter.dead_letter_id, letter.origin, letter.code) == (row["id"], "job", job["error_code"])
        assert await site.chunks(job["id"]) == []


async def test_a_pdf_that_is_an_image_is_processed_as_what_it_is(site: Site) -> None:
    """The bytes decide: the words in the picture are found, under the type that the file really has."""
    async with site.service(build_ingest, IngestSettings), site.service(build_process, ProcessSettings):
        await site.upload("sign.pdf", (CORPUS / "control-room-sign.png").read_bytes())
        (job,) = await site.ended("sign.pdf")
    assert (job["status"], job["media_type"], job["attempts"]) == ("completed", "image/png", 1)
    chunks = await site.chunks(job["id"])
    assert any("7702" in text for _, text, _ in chunks)
    assert all(json.loads(locator)["page"] == 1 for _, _, locator in chunks)


@pytest.mark.slow
async def test_a_hundred_bad_files_in_a_row_leave_the_worker_as_it_was(site: Site) -> None:
    """Neither memory nor child processes nor files grow with the number of files that could not be read."""
    warm_up, rounds = 12, 100
    kinds = [half_a_pdf(), ENCRYPTED.read_bytes(), b"", blank_image()]
    async with site.service(build_ingest, IngestSettings), site.process("services.process") as process:

        async def feed(prefix: str, count: int) -> None:
            names = [f"{prefix}-{number}.pdf" for number in range(count)]
            for number, name in enumerate(names):
                await site.upload(name, kinds[number % len(kinds)])
            jobs = await site.ended(*names, within_seconds=240)
            assert {(job["status"], job["attempts"]) for job in jobs} == {("failed", 1)}

        await feed("warm", warm_up)
        before = await at_rest(process.pid, process.temp_dir)
        await feed("bad", rounds)
        after = await at_rest(process.pid, process.temp_dir)
    children, files, resident_bytes, descriptors = after
    assert (children, files) == before[:2]
    assert resident_bytes < before[2] * 1.1 + 8 * 1024 * 1024, f"{before[2]} grew to {resident_bytes}"
    assert descriptors <= before[3] + 4, f"{before[3]} grew to {descriptors}"


async def at_rest(pid: int, folder: Path) -> tuple[int, int, int, int]:
    """Return children, temporary files, resident bytes and open files once only the spare reader is left."""
    process = psutil.Process(pid)

    async def look() -> bool:
        return len(process.children(recursive=True)) == 1

    await eventually(look)
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    return 1, files, process.memory_info().rss, process.num_fds()


def is_a_sentence(text: str) -> bool:
    """Say whether a person could be shown this: words from a capital letter to a full stop, and no code."""
    return text[0].isupper() and text.endswith(".") and " " in text and "Error" not in text and "Traceback" not in text


def blank_image() -> bytes:
    """Make a picture without words."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(buffer, "PNG")
    return buffer.getvalue()
