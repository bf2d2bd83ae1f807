"""`ChildExtractor`: each file is read in a process of its own, watched, limited, and always gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from services.process.extract import sniffing
from services.process.extract.protocol import LENGTH_BYTES, MAX_FRAME_BYTES, Request, read_answer
from shared.errors import UnprocessableContent, WorkerCrashed
from shared.model.document import Segment

_log = structlog.get_logger(__name__)

_MEMORY_POLL_SECONDS = 0.1
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PIPE_BUFFER_BYTES = 256 * 1024


class ChildExtractor:
    """`Extractor` with one child process per file and one more that is warm and waits for the next.

    Use it as an async context manager: at its end no child is left, however it is left. Files may be read at the same
    time; each has its own limits.
    """

    def __init__(
        self,
        *,
        deadline_seconds: float = 300.0,
        memory_limit_bytes: int = 1536 * 1024 * 1024,
        max_text_bytes: int = 64 * 1024 * 1024,
        work_dir: Path | None = None,
    ) -> None:
        """Set the limits of one file.

        Args:
            deadline_seconds: How long the caller waits for the child in all; time the caller takes between two
                segments is not counted. Also the limit of the child's processor time.
            memory_limit_bytes: Resident memory at which the child is killed.
            max_text_bytes: How much text (UTF-8) one file may give.
            work_dir: Where each child gets a temporary folder; the system's place by default.
        """
        self._deadline_seconds = deadline_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self._max_text_bytes = max_text_bytes
        self._work_dir = work_dir
        self._spare: _Child | None = None
        self._children: set[_Child] = set()
        self._open = False

    async def __aenter__(self) -> Self:
        """Start the spare child."""
        self._open = True
        self._spare = await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill and reap every child."""
        self._open = False
        for child in tuple(self._children):
            await self._end(child)

    def sniff(self, path: Path, *, name: str) -> str:
        """Return the media type by the bytes; see `sniffing.sniff`."""
        return sniffing.sniff(path, name=name)

    async def extract(self, path: Path, *, media_type: str, start: int = 0) -> AsyncGenerator[Segment, None]:
        """Yield the segments of a file in reading order, from index `start` on.

        Close the iterator when leaving early (`contextlib.aclosing`), so that the child ends at that moment and not
        when the garbage is collected.

        Raises:
            UnprocessableContent: `UNSUPPORTED_TYPE`, `CORRUPT`, `ENCRYPTED`, `EMPTY`, `NO_TEXT`, `TOO_COMPLEX`.
            WorkerCrashed: the child died for a reason that is not the file's.
        """
        absolute_path = await asyncio.to_thread(_not_empty, path)
        child = await self._take()
        try:
            child.send(
                Request(
                    path=absolute_path,
                    media_type=media_type,
                    start=start,
                    max_text_bytes=self._max_text_bytes,
                    cpu_seconds=max(1, int(self._deadline_seconds) + 1),
                )
            )
            index, waited_seconds = start, 0.0
            clock = asyncio.get_running_loop()
            while True:
                began = clock.time()
                payload = await child.receive(self._deadline_seconds - waited_seconds)
                waited_seconds += clock.time() - began
                segment = read_answer(payload, expected_index=index)
                if segment is None:
                    return
                yield segment
                index += 1
        finally:
            await self._end(child)

    async def _take(self) -> _Child:
        if not self._open:
            raise RuntimeError("ChildExtractor is used outside its context")
        child, self._spare = self._spare, None
        if child is None or not child.is_alive:
            child = await self._start()
        try:
            await self._refill()
        except BaseException:
            await self._end(child)
            raise
        return child

    async def _refill(self) -> None:
        spare = await self._start()
        surplus, self._spare = self._spare, spare
        if surplus is not None:  # another file was begun at the same time
            await self._end(surplus)

    async def _start(self) -> _Child:
        child = await _Child.start(self._work_dir, self._memory_limit_bytes)
        self._children.add(child)
        return child

    async def _end(self, child: _Child) -> None:
        await child.end()
        self._children.discard(child)


class _Child:
    """One process, its folder, and the watch on its memory."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, memory_limit_bytes: int) -> None:
        self._process = process
        self._folder = folder
        self._verdict: str | None = None
        self._watch = asyncio.create_task(self._watch_memory(memory_limit_bytes))
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, work_dir: Path | None, memory_limit_bytes: int) -> Self:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="extract-", dir=work_dir))
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "services.process.extract.child",
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                # Only what it needs: the parent's environment holds secrets, and the child reads hostile files.
                env={
                    "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "LANG": "C.UTF-8",
                    "HOME": str(folder),
                    "TMPDIR": str(folder),
                    "XBERG_CACHE_DIR": str(folder),
                    "HF_HUB_OFFLINE": "1",
                    "OMP_THREAD_LIMIT": "1",
                },
                cwd=folder,
                start_new_session=True,
                limit=_PIPE_BUFFER_BYTES,
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(process, folder, memory_limit_bytes)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and self._ending is None

    def send(self, request: Request) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(request.to_frame())
        self._process.stdin.close()

    async def receive(self, timeout_seconds: float) -> bytes:
        """Return one answer's payload, or raise what its absence means."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                length = int.from_bytes(await self._process.stdout.readexactly(LENGTH_BYTES), "big")
                if length <= MAX_FRAME_BYTES:
                    return await self._process.stdout.readexactly(length)
        except TimeoutError:
            raise _too_complex("it takes too long to read") from None
        except asyncio.IncompleteReadError:
            await self.end()
            if self._verdict is not None:
                raise _too_complex(self._verdict) from None
            if self._process.returncode == -signal.SIGXCPU:
                raise _too_complex("it takes too much processor time to read") from None
            _log.warning("extract_child_died", returncode=self._process.returncode)
            raise WorkerCrashed("The process that reads files died; the file is tried again.") from None
        raise WorkerCrashed("The process that reads files answered with garbage; the file is tried again.")

    async def end(self) -> None:
        """Kill and reap the process and remove its folder. Finishes this also when the caller is cancelled."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        cancelled = False
        while not self._ending.done():
            try:
                await asyncio.shield(self._ending)
            except asyncio.CancelledError:
                if self._ending.cancelled():
                    break
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError

    async def _end(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        self._kill()
        self._watch.cancel()
        self._process.stdin.close()
        # What is in the pipe has to be read before the process counts as ended.
        while await self._process.stdout.read(_PIPE_BUFFER_BYTES):
            pass
        await self._process.wait()
        await asyncio.gather(self._watch, return_exceptions=True)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself and is about to be reaped
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _watch_memory(self, limit_bytes: int) -> None:
        """Kill at the limit. Resident memory, because libraries reserve far more addresses than they use."""
        statm = Path(f"/proc/{self._process.pid}/statm")
        while True:
            try:
                # The kernel answers from memory, at once.
                resident_bytes = int(statm.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES  # noqa: ASYNC240
            except (OSError, IndexError, ValueError):
                return  # it has ended
            if resident_bytes > limit_bytes:
                self._verdict = "it takes too much memory to read"
                self._kill()
                return
            await asyncio.sleep(_MEMORY_POLL_SECONDS)


def _not_empty(path: Path) -> Path:
    if path.stat().st_size == 0:
        raise UnprocessableContent("The file is empty (0 bytes).", code="EMPTY")
    return path.absolute()


def _too_complex(why: str) -> UnprocessableContent:
    return UnprocessableContent(f"The file is too complex: {why}; split it or save it anew.", code="TOO_COMPLEX")
