"""`ChildExtractor`: each file is read in a process of its own, watched, limited, and always gone at the end.

The process is a fork of a warm one (`forks`, `server`). Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from services.process.extract import sniffing
from services.process.extract.forks import Fork, ForkServer, to_the_end
from services.process.extract.protocol import LENGTH_BYTES, MAX_FRAME_BYTES, Request, read_answer
from shared.errors import ReaderUnavailable, UnprocessableContent, WorkerCrashed
from shared.model.document import Segment

_log = structlog.get_logger(__name__)

_MEMORY_POLL_SECONDS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BUFFER_BYTES = 256 * 1024
_START_ATTEMPTS = 2
_WAITS = "The process that reads files could not be started; the file waits until it can be."


class ChildExtractor:
    """`Extractor` with one process per file, forked from one more that is warm and waits for the next.

    Use it as an async context manager: at its end no child is left, however it is left. Files may be read at the same
    time; each has its own limits.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float = 300.0,
        memory_limit_bytes: int = 1536 * 1024 * 1024,
        max_text_bytes: int = 64 * 1024 * 1024,
        ocr_seconds: float = 3_600.0,
        work_dir: Path | None = None,
        files_per_server: int = 500,
    ) -> None:
        """Set the limits of one file.

        Args:
            deadline_seconds: How long the caller waits for the child in all; time the caller takes between two
                segments is not counted. Also the limit of the child's processor time.
            memory_limit_bytes: Resident memory at which the child is killed.
            max_text_bytes: How much text (UTF-8) one file may give, with the names of the places where it stands.
            ocr_seconds: How much longer the caller waits for pages that are read by OCR; each of them is bounded by
                itself as well (`ocr.PAGE_SECONDS`). A book of scanned pages is no fault, only slow.
            work_dir: Where each child gets a temporary folder; the system's place by default.
            files_per_server: After how many files the warm process is replaced, so that nothing in it can grow forever.
        """
        self._deadline_seconds = deadline_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._max_text_bytes = max_text_bytes
        self._ocr_seconds = ocr_seconds
        self._work_dir = work_dir
        self._files_per_server = files_per_server
        self._server: ForkServer | None = None
        self._servers: set[ForkServer] = set()
        self._choosing = asyncio.Lock()
        self._children: set[_Child] = set()
        self._open = False

    async def __aenter__(self) -> Self:
        """Start the warm process, and do not wait for it. One that cannot be started is tried again for each file."""
        self._open = True
        with contextlib.suppress(ReaderUnavailable):  # logged; `ping` says so until it can be
            await self._choose()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill and reap every process."""
        self._open = False
        await to_the_end(self._close())

    def sniff(self, path: Path, *, name: str) -> str:
        """Return the media type by the bytes; see `sniffing.sniff`."""
        return sniffing.sniff(path, name=name)

    async def ping(self) -> None:
        """Return when files can be read.

        Raises:
            ReaderUnavailable: the process that forks the readers does not start; its last words are in the log.
        """
        server = await self._choose()
        if not await server.is_ready():
            raise ReaderUnavailable("The process that reads files does not start.")

    async def extract(
        self, path: Path, *, media_type: str, start: int = 0, pictures: bool = False
    ) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file in reading order, from index `start` on.

        With `pictures`, what OCR would read comes as a picture without text: one page at a time, the next one when the
        caller asks for it. Close the iterator when leaving early (`contextlib.aclosing`), so that the child ends at
        that moment and not when the garbage is collected.

        Raises:
            UnprocessableContent: `UNSUPPORTED_TYPE`, `CORRUPT`, `ENCRYPTED`, `EMPTY`, `NO_TEXT`, `TOO_COMPLEX`.
            WorkerCrashed: the child died for a reason that is not the file's.
            ReaderUnavailable: no child could be started; the file was not touched.
        """
        absolute_path = await asyncio.to_thread(_not_empty, path)
        child = await self._start()
        try:
            child.send(
                Request(
                    path=absolute_path,
                    folder=child.folder,
                    media_type=media_type,
                    start=start,
                    max_text_bytes=self._max_text_bytes,
                    cpu_seconds=max(1, int(self._deadline_seconds + self._ocr_seconds) + 1),
                    pictures=pictures,
                )
            )
            index, waited_seconds, ocr_seconds_left = start, 0.0, self._ocr_seconds
            clock = asyncio.get_running_loop()
            while True:
                began = clock.time()
                payload = await child.receive(self._deadline_seconds - waited_seconds)
                took_seconds = clock.time() - began
                segment = read_answer(payload, expected_index=index)
                if segment is None:
                    return
                if segment.by_ocr and ocr_seconds_left > took_seconds:
                    ocr_seconds_left -= took_seconds
                else:
                    waited_seconds += took_seconds
                yield segment
                index += 1
        finally:
            await self._end(child)

    async def _start(self) -> _Child:
        # A server that died before it forked has not touched the file: the next one is asked.
        for _ in range(_START_ATTEMPTS):
            try:
                child, far_end = await _Child.prepare(self._work_dir)
            except OSError as error:
                raise _unavailable(error) from error
            self._children.add(child)
            try:
                with far_end:
                    async with self._choosing:
                        server = await self._choose_server()
                        await server.is_ready()
                        child.fork = server.fork(far_end)
                if await child.has_started(self._memory_limit_bytes):
                    return child
            except OSError as error:  # no process, memory, descriptor or program for the server
                await self._end(child)
                raise _unavailable(error) from error
            except BaseException:
                await self._end(child)
                raise
            await self._end(child)
        raise ReaderUnavailable(_WAITS)

    async def _choose(self) -> ForkServer:
        try:
            async with self._choosing:
                return await self._choose_server()
        except OSError as error:
            raise _unavailable(error) from error

    async def _choose_server(self) -> ForkServer:
        """Return the server to be asked next: the present one, unless it is dead or has served its number."""
        if not self._open:
            raise RuntimeError("ChildExtractor is used outside its context")
        if self._server is not None and self._server.is_alive:
            if self._server.forked < self._files_per_server:
                return self._server
            self._server.retire()
        self._server = server = await ForkServer.start()
        self._servers.add(server)
        server.gone.add_done_callback(lambda _: self._servers.discard(server))
        return server

    async def _end(self, child: _Child) -> None:
        await child.end()
        self._children.discard(child)

    async def _close(self) -> None:
        for child in tuple(self._children):
            await self._end(child)
        for server in tuple(self._servers):
            await server.close()
        async with self._choosing:  # one may just have been started
            for server in tuple(self._servers):
                await server.close()


class _Child:
    """One process, the connection to it, its folder, and the watch on its memory."""

    def __init__(self, folder: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.folder = folder
        self._reader = reader
        self._writer = writer
        self.fork: Fork | None = None
        self._verdict: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def prepare(cls, work_dir: Path | None) -> tuple[Self, socket.socket]:
        """Make everything but the process; return also its end of the connection."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="extract-", dir=work_dir))
        near_end, far_end = socket.socketpair()
        try:
            reader, writer = await asyncio.open_unix_connection(sock=near_end, limit=_BUFFER_BYTES)
        except BaseException:
            near_end.close()
            far_end.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder, reader, writer), far_end

    async def has_started(self, memory_limit_bytes: int) -> bool:
        """Wait for the process and watch it from then on; False when there will be none."""
        assert self.fork is not None
        if not await self.fork.has_started():
            return False
        self._watch = asyncio.create_task(self._watch_memory(self.fork, memory_limit_bytes))
        return True

    def send(self, request: Request) -> None:
        self._writer.write(request.to_frame())

    async def receive(self, timeout_seconds: float) -> bytes:
        """Return one answer's payload, or raise what its absence means."""
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                if length <= MAX_FRAME_BYTES:
                    return await self._reader.readexactly(length)
        except TimeoutError:
            raise _too_complex("it takes too long to read") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.end()
            returncode = self.fork.returncode if self.fork is not None else None
            if self._verdict is not None:
                raise _too_complex(self._verdict) from None
            if returncode == -signal.SIGXCPU:
                raise _too_complex("it takes too much processor time to read") from None
            if returncode == -signal.SIGABRT:
                # How the library ends when a damaged file makes it ask for more memory than any machine has.
                raise _too_complex("it asks for more memory than there is") from None
            _log.warning("extract.child_died", returncode=returncode)
            raise WorkerCrashed("The process that reads files died; the file is tried again.") from None
        raise WorkerCrashed("The process that reads files answered with garbage; the file is tried again.")

    async def end(self) -> None:
        """Kill and reap the process and remove its folder. Finishes this also when the caller is cancelled."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await to_the_end(self._ending)

    async def _end(self) -> None:
        self._writer.transport.abort()
        if self.fork is not None:
            await self.fork.end()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _watch_memory(self, fork: Fork, limit_bytes: int) -> None:
        """Kill at the limit. Resident memory, because libraries reserve far more addresses than they use."""
        statm = Path(f"/proc/{fork.pid}/statm")
        while True:
            try:
                # The kernel answers from memory, at once.
                resident_bytes = int(statm.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES  # noqa: ASYNC240
            except (OSError, IndexError, ValueError):
                return  # it has ended
            if resident_bytes > limit_bytes:
                # Nothing to kill: it has been reaped, and the number was another process's.
                if fork.kill():
                    self._verdict = "it takes too much memory to read"
                return
            await asyncio.sleep(_MEMORY_POLL_SECONDS)


def _unavailable(error: OSError) -> ReaderUnavailable:
    _log.error("extract.server_unusable", error=f"{type(error).__name__}: {error.strerror}")
    return ReaderUnavailable(_WAITS)


def _not_empty(path: Path) -> Path:
    if path.stat().st_size == 0:
        raise UnprocessableContent("The file is empty (0 bytes).", code="EMPTY")
    return path.absolute()


def _too_complex(why: str) -> UnprocessableContent:
    return UnprocessableContent(f"The file is too complex: {why}; split it or save it anew.", code="TOO_COMPLEX")
