"""Damaged files and files made to hurt: each ends as text or as a verdict, within its limits, and leaves nothing."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import process_time
from typing import Any

import psutil
import pytest
from aiohttp import web

from services.process.extract.extractor import ChildExtractor
from services.process.extract.sniffing import sniff
from shared.errors import UnprocessableContent
from shared.model import media
from tests.plugins import fuzzing, hostile
from tests.plugins.bombs import BOMBS, DEEP, parts_of
from tests.plugins.fuzzing import VERDICTS, at_rest, outcome_of, reading
from tests.plugins.hostile import WORDS, archive, open_document, pdf, word
from tests.services.process.extract.processes import children

MEMORY_BYTES = 512 * 1024 * 1024
SLACK_BYTES = 512 * 1024 * 1024
"""How far a child may get beyond its limit until the next look, on a machine that is busy elsewhere."""

REFUSED = {
    "CORRUPT": {"flat-lying", "laughs-odt", "pdf-endless-pages", "png-text", "csv-quote"},
    "NO_TEXT": {"gif-frames", "pdf-circular", "pdf-500-empty", "laughs-docx"},
    "TOO_COMPLEX": {
        *("flat", "workbook", "sheet-part", "overlap", "ods-repeated", "pdf-100000-empty", "pdf-huge-stream"),
        *("pdf-huge-stream-packed-thrice", "png-50000", "png-50000-hollow", "tiff-frames", "tiff-wide", "docx-deep"),
        *("csv-empty-lines", "line-csv", "xml-deep"),
    },
    "UNSUPPORTED_TYPE": {"plain-zip"},
}
EXPECTED = {name: code for code, names in REFUSED.items() for name in names}
QUICK = (
    *("nested", "overlap", "plain-zip", "laughs-xml", "laughs-docx", "laughs-odt", "quadratic-xml", "pdf-lying-count"),
    *("pdf-100000-empty", "pdf-endless-pages", "pdf-circular", "png-50000-hollow", "tiff-wide", "json-deep"),
    *("xml-deep", "ods-repeated", "docx-deep", "eml-deep"),
)


async def ends_of(names: tuple[str, ...], folder: Path) -> dict[str, str]:
    """Read these bombs, two at a time, under limits that fit a test; return what each came to."""
    work_dir = folder / "work"
    work_dir.mkdir()
    ends: dict[str, str] = {}
    slots = asyncio.Semaphore(2)
    outside = children()
    others = reading(psutil.Process())
    async with ChildExtractor(work_dir=work_dir, memory_limit_bytes=MEMORY_BYTES, deadline_seconds=100) as extractor:

        async def read(name: str) -> None:
            file, make = BOMBS[name]
            path = folder / f"{name}-{file}"
            async with slots:
                await asyncio.to_thread(lambda: path.write_bytes(make()))
                ends[name] = await outcome_of(extractor, path, file)
                path.unlink()

        await outcome_of(extractor, hostile.CORPUS / "shift-log.txt", "a.txt")
        before = await at_rest(others)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(read(name))
        after = await at_rest(others)
        assert list(work_dir.iterdir()) == []
    assert children() <= outside
    assert (after.processes, after.descriptors) == (before.processes, before.descriptors)
    return ends


def wrong(ends: dict[str, str]) -> dict[str, str]:
    """Return what is neither expected by name nor text or a verdict."""
    return {name: end for name, end in ends.items() if end != EXPECTED.get(name, end) or end not in VERDICTS | {"read"}}


async def test_small_bombs_end_with_a_verdict_or_as_what_they_say(tmp_path: Path) -> None:
    """Entities that multiply, entries that overlap, pages without end: a code or text, and no process more."""
    assert wrong(await ends_of(QUICK, tmp_path)) == {}


@pytest.mark.slow
async def test_all_bombs_end_within_the_limits(tmp_path: Path) -> None:
    """Hundreds of megabytes out of one, pictures of 50,000 by 50,000, 200,000 levels: no child outgrows its limit."""
    rest = tuple(name for name in BOMBS if name not in QUICK)
    assert wrong(await ends_of(rest, tmp_path)) == {}
    most_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert most_bytes < MEMORY_BYTES + SLACK_BYTES


@pytest.mark.slow
async def test_damaged_copies_of_every_kind_end_with_a_verdict_or_as_text() -> None:
    """Cut off anywhere or with one byte changed; `benchmarks/fuzz.py` does the same with ten times as many."""
    run = await fuzzing.fuzz(seed=7, truncations=6, flips=16, at_once=2)
    assert run.faults == []
    assert len({end.ending for end in run.ends}) >= 24


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[str, list[str]]]:
    """Serve on this machine; yield the address and the paths that were asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text="fetched secret")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def pointing_at(target: str) -> dict[str, bytes]:
    """Return files of many kinds that want something of `target` to be part of them."""
    doctype = f'<!DOCTYPE a [<!ENTITY e SYSTEM "{target}"><!ENTITY % p SYSTEM "{target}?p"> %p;]>'
    outside = f'<?xml version="1.0"?><!DOCTYPE a SYSTEM "{target}?dtd">'
    chapter = f'{doctype}<html><body><p>{WORDS}&e;</p><img src="{target}"/></body></html>'
    relation = (
        '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r9" TargetMode="External" Target="{target}" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/attachedTemplate"/></Relationships>'
    )
    page = (
        f'<html><head><link rel="stylesheet" href="{target}"><base href="{target}"></head><body><h1>Gates</h1>'
        f'<p>{WORDS}</p><img src="{target}"><iframe src="{target}"></iframe><object data="{target}"></object></body>'
    )
    action = f"/OpenAction<</S/URI/URI({target})>>/AA<</O<</S/SubmitForm/F({target})>>>>"
    return {
        "a.xml": f"<?xml version='1.0'?>{doctype}<a><b>{WORDS}&e;</b></a>".encode(),
        "b.xml": f"{outside}<a><b>{WORDS}</b><xi:include xmlns:xi='http://www.w3.org/2001/XInclude' "
        f"href='{target}' parse='text'/></a>".encode(),
        "a.docx": word(text=f"{WORDS}&e;", doctype=doctype, more={"word/_rels/document.xml.rels": relation.encode()}),
        "a.odt": open_document(media.ODT, text=f"{WORDS}&e;", doctype=doctype),
        "a.epub": archive(parts_of(hostile.epub()) | {"c1.xhtml": chapter.encode()}),
        "a.html": page.encode(),
        "a.md": f"# Gates\n\n{WORDS} ![x]({target})\n\n<img src='{target}'>\n".encode(),
        "a.eml": (
            "From: a@example.org\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: message/external-body; "
            f'access-type=URL; URL="{target}"\r\n\r\nContent-Type: text/html\r\n\r\n{page}'
        ).encode(),
        "a.rtf": (
            f'{{\\rtf1 {WORDS}{{\\field{{\\*\\fldinst INCLUDETEXT "{target}"}}{{\\fldrslt x}}}}'
            f"{{\\*\\template {target}}}}}"
        ).encode(),
        "a.pdf": pdf(1).replace(b"/Type/Catalog", b"/Type/Catalog" + action.encode()),
    }


async def test_nothing_outside_the_file_is_read_for_it(tmp_path: Path) -> None:
    """What a file points at, on this machine or over HTTP, is not fetched and not in its text."""
    secret = tmp_path / "secret.txt"
    secret.write_text("fetched secret")
    ends: dict[str, Any] = {}
    async with listener() as (url, asked), ChildExtractor(work_dir=tmp_path) as extractor:
        for target in (f"{url}/x", secret.as_uri(), str(secret)):
            for name, data in pointing_at(target).items():
                path = tmp_path / name
                path.write_bytes(data)
                media_type = extractor.sniff(path, name=name)
                try:
                    ends[name] = " ".join([s.text async for s in extractor.extract(path, media_type=media_type)])
                except UnprocessableContent as verdict:
                    ends[name] = verdict.code
                assert "fetched secret" not in ends[name], name
        assert asked == []
    assert [name for name, text in ends.items() if "intake gate" in text]  # some of them are read at all


async def test_slides_without_notes_are_read(tmp_path: Path) -> None:
    """A presentation of OpenDocument that has no notes is not one without text."""
    said = parts_of(open_document(media.ODP))
    bare = said["content.xml"].replace(b"presentation:notes", b"presentation:none")
    (tmp_path / "a.odp").write_bytes(archive(said | {"content.xml": bare}))
    async with ChildExtractor(work_dir=tmp_path) as extractor:
        texts = [s.text async for s in extractor.extract(tmp_path / "a.odp", media_type=media.ODP)]
    assert "intake gate" in texts[0]


def test_the_first_bytes_of_a_file_cannot_keep_the_caller_busy(tmp_path: Path) -> None:
    """What a file is takes the caller a moment to see, however its beginning repeats itself."""
    starts = {
        "tags.html": b"<" * DEEP,
        "comments.html": b"<!--" * DEEP,
        "comments.txt": b"<!-- -->" * DEEP,
        "spaces.html": b" " * 60_000 + b"<",
        "streams.msg": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"_\0" * DEEP,
    }
    path = tmp_path / "object"
    began = process_time()
    for name, data in starts.items():
        path.write_bytes(data)
        with suppress(UnprocessableContent):
            sniff(path, name=name)
    assert process_time() - began < 5  # of processor time: about 0.01
