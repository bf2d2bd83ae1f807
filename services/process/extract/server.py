"""The fork server: imports everything once, then forks for each file, so that starting a process costs milliseconds.

It reads no file and holds nothing of any, so every fork begins in the same clean state. It has one thread, or it does
not serve: a lock held by another thread would stay locked in a fork. Each fork has only its own end of a socket, dies
with the server, which dies with the service, and is reaped here at once.

Linux only: it needs `PR_SET_PDEATHSIG` and pidfds. `forks` is the other side.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from services.process.extract import child
from services.process.extract.protocol import receive_message, send_message

_PR_SET_PDEATHSIG = 1
_CHANNEL = 3
_NOT_SINGLE_THREADED = 70


def main() -> None:
    """Serve on the socket that is standard input, until its other end is closed and the last fork has ended."""
    _die_with(int(sys.argv[1]))
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    child.preload()
    # From here on nothing is said but to `control`: the forks inherit this, and libraries chat about their files.
    os.dup2(1, 2)
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        os._exit(_NOT_SINGLE_THREADED)
    # A collection in a fork would touch, and so copy, every page that holds an object.
    gc.collect()
    gc.freeze()
    send_message(control, {"ready": os.getpid()})
    _serve(control)
    os._exit(0)  # as everywhere here: the library may crash while the interpreter shuts down


def _serve(control: socket.socket) -> None:
    forks: dict[int, int] = {}
    poll = select.poll()
    poll.register(control, select.POLLIN)
    is_asked = True
    while is_asked or forks:
        for descriptor, _ in poll.poll():
            if descriptor in forks:
                poll.unregister(descriptor)
                _reap(control, descriptor, forks.pop(descriptor))
                continue
            _, channel = receive_message(control)
            if channel is None:
                is_asked = False
                poll.unregister(control)
            elif (fork := _fork(control, channel)) is not None:
                forks |= [fork]
                poll.register(fork[0], select.POLLIN)


def _fork(control: socket.socket, channel: int) -> tuple[int, int] | None:
    """Return the new process's pidfd and pid, which the service is told as well."""
    server, pid = os.getpid(), None
    try:
        pid = os.fork()
        if pid == 0:
            # The sockets above are still known to frames further up, so nothing closes their numbers a second time.
            _be_a_fork(server, channel)
        # It cannot be another process: only this one reaps.
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        send_message(control, {"failed": error.errno})
        return None
    finally:
        os.close(channel)
    send_message(control, {"started": pid}, pidfd)
    return pidfd, pid


def _be_a_fork(server: int, channel: int) -> NoReturn:
    try:
        _die_with(server)
        os.setsid()
        os.dup2(channel, _CHANNEL)
        os.closerange(_CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
        child.serve(_CHANNEL)
    finally:
        os._exit(1)


def _reap(control: socket.socket, pidfd: int, pid: int) -> None:
    # What it may have started goes with it; until it is reaped, nobody else has its number.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    send_message(control, {"ended": pid, "returncode": os.waitstatus_to_exitcode(status)})


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
