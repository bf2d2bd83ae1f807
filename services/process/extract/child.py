"""What a fork does: reads one request, answers with segments, and is gone. Forked by `server` only.

Whatever a file does here, the parent's limits end it. The last act is `os._exit`, because the library may crash while
the interpreter shuts down, and that would look like a failure.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import resource
from pathlib import Path
from typing import BinaryIO, NoReturn

from services.process.extract import library, pages, places
from services.process.extract.files import Reading
from services.process.extract.protocol import LENGTH_BYTES, Request, frame, segment_message
from shared.errors import UnprocessableContent

_MAX_TEMPORARY_FILE_BYTES = 512 * 1024 * 1024


def preload() -> None:
    """Load, in the server, what a fork would otherwise load for its file. Starts no thread and reads no document."""
    import xberg  # noqa: F401, PLC0415  # 200 ms, for nobody but the server

    pages.preload()
    library.tessdata_path()
    for name in ("utf-8-sig", "utf-16", "latin-1", "cp437", "cp1252"):
        codecs.lookup(name)


def serve(channel: int) -> NoReturn:
    """Answer the one request that comes through a descriptor, and exit."""
    with open(channel, "rb", closefd=False) as requests:  # a descriptor is no path
        length = requests.read(LENGTH_BYTES)
        payload = requests.read(int.from_bytes(length, "big"))
    if not payload:
        os._exit(0)  # the parent has left
    request = Request.from_payload(payload)
    _limit(request)
    _move_into(request.folder)
    asyncio.run(_serve(request, open(channel, "wb", closefd=False)))  # noqa: SIM115  # open until the exit
    os._exit(0)


async def _serve(request: Request, answers: BinaryIO) -> None:
    size_bytes, has_text = 0, request.start > 0
    try:
        async for segment in Reading(request).segments():
            size_bytes += len(segment.text.encode()) + places.size_bytes(segment.locator)
            if size_bytes > request.max_text_bytes:
                raise UnprocessableContent(  # noqa: TRY301
                    f"The file holds more than {request.max_text_bytes // 1024 // 1024} MB of text; split it.",
                    code="TOO_COMPLEX",
                )
            has_text = has_text or segment.picture is not None or bool(segment.text.strip())
            answers.write(frame(segment_message(segment)))
            answers.flush()
        if not has_text:
            raise UnprocessableContent("No text was found in the file, also not by OCR.", code="NO_TEXT")  # noqa: TRY301
        answer: dict[str, object] = {"done": True}
    except UnprocessableContent as verdict:
        answer = {"error": {"code": verdict.code, "message": verdict.message}}
    except (MemoryError, RecursionError):
        answer = {"error": {"code": "TOO_COMPLEX", "message": "The file is nested too deeply or too large to read."}}
    except ConnectionError:
        os._exit(0)
    except Exception as error:  # noqa: BLE001  # the parent must hear of it in one line, and no trace leaves here
        answer = {"error": {"code": "INTERNAL", "message": type(error).__name__}}
    answers.write(frame(answer))
    answers.flush()


def _move_into(folder: Path) -> None:
    os.chdir(folder)
    # Set, not read: the library and `tempfile` look there for a place.
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "XBERG_CACHE_DIR"), str(folder)))  # noqa: TID251


def _limit(request: Request) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_TEMPORARY_FILE_BYTES, _MAX_TEMPORARY_FILE_BYTES))
    # A second more for the hard limit: the soft one is the signal by which the parent tells the cause.
    resource.setrlimit(resource.RLIMIT_CPU, (request.cpu_seconds, request.cpu_seconds + 1))
