"""The parent's side of the fork server: `ForkServer` is one warm process, `Fork` one process that it has forked.

A fork is killed by its pidfd, never by a number that may by then be another process's. When the server is gone, whoever
killed it, its forks are killed too and count as ended only when they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import structlog

from services.process.extract.protocol import receive_message, send_message

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

_READY_SECONDS = 60.0
_ANSWER_SECONDS = 30.0
_MAX_LAST_WORDS_BYTES = 64 * 1024


async def to_the_end(work: Coroutine[Any, Any, _T] | asyncio.Task[_T]) -> _T:
    """Await something that must not be left half done: a caller that is cancelled hears of it afterwards."""
    task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
    return task.result()


class Fork:
    """One process for one file. Made by `ForkServer.fork`."""

    def __init__(self, server: ForkServer) -> None:
        """Wait for the server's answer."""
        loop = asyncio.get_running_loop()
        self._server = server
        self.pid = 0
        self.returncode: int | None = None
        """As `subprocess` has it; None when nobody could tell."""
        self._pidfd = -1
        self._started: asyncio.Future[bool] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    async def has_started(self) -> bool:
        """Wait for the server's answer; False when it could not fork or is gone.

        A server that does not answer is killed.
        """
        await self._within_time(self._started)
        return await asyncio.shield(self._started)

    async def end(self) -> None:
        """Kill the process and wait until it is reaped."""
        await self.has_started()
        self.kill()
        await self._within_time(self._ended)
        await asyncio.shield(self._ended)

    async def _within_time(self, answer: asyncio.Future[Any]) -> None:
        await asyncio.wait([answer], timeout=_ANSWER_SECONDS)
        if not answer.done():
            self._server.kill()

    def kill(self) -> bool:
        """Kill the process; False when there is none, or none any more."""
        if self._pidfd < 0:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def on_started(self, pid: int, pidfd: int) -> None:
        """Take over the process, and the descriptor."""
        self.pid, self._pidfd = pid, pidfd
        self._started.set_result(True)

    def on_ended(self, returncode: int | None) -> None:
        """Note that the process is no more, or never was."""
        self.returncode = returncode
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if not self._started.done():
            self._started.set_result(False)
        self._ended.set_result(None)

    def on_orphaned(self) -> None:
        """Note that the server is dead and will not tell the end: find it out."""
        self.kill()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        # Ours to reap where this process adopts orphans, as the first one in a container does.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self.on_ended(None)


class ForkServer:
    """The process in `server`, started and heard."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        """Listen to a process just started; use `start`."""
        self.forked = 0
        """How many forks were asked for."""
        self.is_alive = True
        self._process = process
        self._control = control
        self._is_expected_to_end = False
        self._ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._starting: deque[Fork] = deque()
        self._running: dict[int, Fork] = {}
        asyncio.get_running_loop().add_reader(control, self._hear)
        self.gone = asyncio.create_task(self._reap())
        """Done when the process is reaped."""

    @classmethod
    async def start(cls) -> Self:
        """Start the process; what it imports takes it some tenths of a second more.

        What it says before it is ready, as an import that fails, is logged when it ends without having been.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "services.process.extract.server",
                    str(os.getpid()),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,  # until it is ready
                    # Only what it needs: the parent's environment holds secrets, and its forks read hostile files.
                    env={
                        "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
                        "PYTHONDONTWRITEBYTECODE": "1",
                        "LANG": "C.UTF-8",
                        "HF_HUB_OFFLINE": "1",
                        "OMP_THREAD_LIMIT": "1",
                    },
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    async def is_ready(self) -> bool:
        """Wait until it can fork; False when it ended instead, or took a minute and was killed."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            self.kill()
            return False

    def fork(self, channel: socket.socket) -> Fork:
        """Ask for a process that serves the other end of this socket, which is closed here."""
        fork = Fork(self)
        self.forked += 1
        with channel:
            try:
                send_message(self._control, {}, channel.fileno())
            except OSError:  # it is gone, or does not read
                self.kill()
                fork.on_ended(None)
                return fork
        self._starting.append(fork)
        return fork

    def retire(self) -> None:
        """Ask for nothing more; it ends by itself when its last fork has."""
        self._is_expected_to_end = True
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the process, and by that its forks; nothing more is heard of it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if not self.is_alive:
            return
        self.is_alive = False
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        if not self._ready.done():
            self._ready.set_result(False)
        for fork in self._starting:
            fork.on_ended(None)
        self._starting.clear()

    async def close(self) -> None:
        """Kill the process and wait until it and its forks are gone."""
        self._is_expected_to_end = True
        self.kill()
        await to_the_end(self.gone)

    def _hear(self) -> None:
        try:
            while self._take(*receive_message(self._control)):
                pass
        except BlockingIOError:
            return
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            pass  # it is gone, or says what no server says
        self.kill()

    def _take(self, message: dict[str, Any], descriptor: int | None) -> bool:
        """Act on what the server says; False when that was the last of it."""
        if "ready" in message:
            self._ready.set_result(True)
        elif "started" in message and descriptor is not None:
            fork = self._starting.popleft()
            self._running[message["started"]] = fork
            fork.on_started(message["started"], descriptor)
        elif "failed" in message:
            _log.warning("extract.fork_failed", errno=message["failed"])
            self._starting.popleft().on_ended(None)
        elif "ended" in message:
            self._running.pop(message["ended"]).on_ended(message["returncode"])
        else:
            return False
        return True

    async def _reap(self) -> None:
        returncode = await self._process.wait()
        if self.is_alive:
            self._hear()
            self.kill()
        was_ready = self._ready.result()
        for fork in self._running.values():
            fork.on_orphaned()
        if not self._is_expected_to_end:
            _log.warning("extract.server_died", returncode=returncode)
        assert self._process.stderr is not None
        words = await self._process.stderr.read(_MAX_LAST_WORDS_BYTES)
        if not was_ready and not self._is_expected_to_end:
            lines = words.decode("utf-8", "replace").splitlines() or ["no last words"]
            _log.error("extract.server_unusable", returncode=returncode, error=lines[-1][:500])
