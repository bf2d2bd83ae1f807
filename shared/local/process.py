"""Child processes that cannot outlive us: started, watched, stopped within a bound, dead when their parent dies.

On Linux the kernel itself sends the child a signal when the *thread* that started it ends, also after kill -9
(`PR_SET_PDEATHSIG`). That is why children are started from the main thread only: started from any other, they would
die with that thread. Elsewhere the kernel offers no such thing and only the orderly stop remains.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from shared.errors import DependencyUnavailable

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.02
_KILL_SECONDS = 5.0

MINIMAL_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""What a server needs from the environment, so that nothing of the user's (PGDATA, HTTP_PROXY, ...) leaks into it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Owner:
    """The unprivileged user that a child runs as."""

    name: str
    uid: int
    gid: int


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listened on a moment ago; whoever uses it must cope with losing it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ChildProcess:
    """One server process as an async context manager: ready on entry, gone on exit.

    Its output goes straight into `log_path`, which starts empty; the previous run's is kept beside it as `*.old`.
    Nothing has to read along, so a busy or closed event loop never blocks the child.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_path: Path,
        ready: Callable[[ChildProcess], Awaitable[bool]],
        env: Mapping[str, str] = MINIMAL_ENVIRONMENT,
        ready_seconds: float = 30.0,
        stop: Sequence[tuple[signal.Signals, float]] = ((signal.SIGTERM, 5.0),),
        death_signal: signal.Signals = signal.SIGKILL,
        owner: Owner | None = None,
        confine: Callable[[], None] | None = None,
    ) -> None:
        """Describe the child; nothing starts yet.

        Args:
            name: for logs and errors.
            argv: program and arguments.
            log_path: where stdout and stderr go; the folder exists.
            ready: asked again and again until it says True.
            env: the whole environment of the child.
            ready_seconds: how long `ready` may take.
            stop: signals to send in turn, each with the seconds to wait for the end; SIGKILL follows by itself.
            death_signal: what the kernel sends the child when we die.
            owner: run as this user (only root can).
            confine: called in the child just before the program starts; must not allocate much nor take locks.
        """
        self.name = name
        self._argv = [str(part) for part in argv]
        self.log_path = log_path
        self._ready = ready
        self._env = dict(env)
        self._ready_seconds = ready_seconds
        self._stop = tuple(stop)
        self._death_signal = death_signal
        self._owner = owner
        self._confine = confine
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id, also after the end; asking before the start is a programming error."""
        return self._running().pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, else the exit status; negative for the signal that ended it."""
        return self._running().returncode

    async def __aenter__(self) -> Self:
        """Start the child and wait until it is ready.

        Raises:
            DependencyUnavailable: it ended or did not become ready in time; the message ends with its last lines.
        """
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """See `__aenter__`; may be called again after the child ended."""
        output = _fresh_log(self.log_path)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._env,
                cwd="/",
                start_new_session=True,  # Ctrl-C in the terminal reaches us, and we stop the child in our order
                preexec_fn=before_exec(self._death_signal, self._confine),
                **_identity(self._owner),
            )
        except OSError as error:
            raise DependencyUnavailable(f"{self.name} cannot be started: {error}") from error
        finally:
            os.close(output)
        try:
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(self._ready_seconds):
                while self.returncode is None:
                    if await self._ready(self):
                        return
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            reason = f"was not ready after {self._ready_seconds:g} s"
        else:
            reason = f"ended with status {self.returncode} while starting"
        raise DependencyUnavailable(f"{self.name} {reason}; its last lines:\n{self.tail()}")

    async def stop(self) -> None:
        """End the child: the stop signals in turn, then SIGKILL. Bounded; a cancelled stop kills at once."""
        process = self._process
        if process is None:
            return
        try:
            for number, seconds in self._stop:
                if process.returncode is not None:
                    return
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await process.wait()
                        return
                log.warning("child_ignores_signal", child=self.name, signal=number.name, waited_seconds=seconds)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                async with asyncio.timeout(_KILL_SECONDS):
                    await process.wait()

    async def wait_ended(self) -> int:
        """Wait for the end, whoever causes it, and return the exit status."""
        return await self._running().wait()

    async def kill9(self) -> None:
        """Kill the child as the kernel's memory killer would, and wait until it is gone. For tests."""
        with contextlib.suppress(ProcessLookupError):
            self._running().kill()
        await self._running().wait()

    def printed(self, prefix: str) -> str | None:
        """Return the first complete line of this run's output that starts with `prefix`, if there is one."""
        lines = self.log_path.read_bytes().decode(errors="replace").splitlines(keepends=True)
        return next((line.rstrip() for line in lines if line.startswith(prefix) and line.endswith("\n")), None)

    def tail(self, lines: int = 12) -> str:
        """Return the last lines of the output."""
        return "\n".join(self.log_path.read_bytes()[-8192:].decode(errors="replace").splitlines()[-lines:])

    def trim_log(self, max_bytes: int) -> None:
        """Empty the log when it has grown beyond `max_bytes`; the child appends, so it goes on at the start."""
        with contextlib.suppress(FileNotFoundError):  # whoever removed the folder meant it
            if self.log_path.stat().st_size > max_bytes:
                os.truncate(self.log_path, 0)

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None, f"{self.name} was not started"
        return self._process


async def run_to_end(
    argv: Sequence[str | Path],
    *,
    owner: Owner | None = None,
    env: Mapping[str, str] = MINIMAL_ENVIRONMENT,
    stdin: bytes = b"",
    seconds: float = 120.0,
) -> str:
    """Run a command that ends by itself and return its output.

    Raises:
        DependencyUnavailable: it failed or took longer than `seconds`; the message ends with its last lines.
    """
    process = await asyncio.create_subprocess_exec(
        *[str(part) for part in argv],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        cwd="/",
        start_new_session=True,
        preexec_fn=before_exec(signal.SIGKILL),
        **_identity(owner),
    )
    name = Path(argv[0]).name
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(stdin)
    except TimeoutError as error:
        raise DependencyUnavailable(f"{name} took longer than {seconds:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        last = "\n".join(text.splitlines()[-12:])
        raise DependencyUnavailable(f"{name} failed with status {process.returncode}; its last lines:\n{last}")
    return text


def before_exec(death_signal: signal.Signals, confine: Callable[[], None] | None = None) -> Callable[[], None]:
    """Return what a child does between fork and exec: ask to die with us, then give up rights.

    Raises:
        RuntimeError: when not called on the main thread, whose life is the one of this process.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "child processes are started from the main thread: they die with the thread that starts them"
        )
    parent = os.getpid()
    library = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: the child must not load anything

    def run() -> None:
        if library is not None:
            library.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:  # we died before the line above: nobody is left to send the signal
                os._exit(1)
        if confine is not None:
            confine()

    return run


def _identity(owner: Owner | None) -> dict[str, Any]:
    return {} if owner is None else {"user": owner.uid, "group": owner.gid, "extra_groups": []}


def _fresh_log(path: Path) -> int:
    if path.exists():
        path.replace(path.with_name(path.name + ".old"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
