"""What tests of the extractor ask the system about its processes."""

import contextlib
import shlex
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[4]


def children() -> set[int]:
    """Return the extractor's processes that this one has started and that are not reaped (others run servers here)."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE or "services.process.extract.server" in child.cmdline():
                found.add(child.pid)
    return found


def open_files() -> int:
    """Return how many file descriptors are open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def server_of(pids: set[int]) -> int:
    """Return the one of these processes that this one has started itself."""
    (server,) = pids & {child.pid for child in psutil.Process().children()}
    return server


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process has open, by their numbers in the system."""
    links = [entry.readlink() for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return {str(link) for link in links if str(link).startswith("socket:")}


def fake_python(folder: Path, code: str) -> Path:
    """Write a program that stands in for the interpreter of the fork server and does something else."""
    path, program = folder / "python", folder / "program.py"
    start = f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nsys.argv = sys.argv[2:]  # without -m\n"
    program.write_text(f"{start}{code}\n")
    # Through a shell: the path of an interpreter with a space in it cannot stand behind #!.
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(program))} "$@"\n')
    path.chmod(0o700)
    return path


def forks_that(folder: Path, code: str) -> Path:
    """Write a fork server whose forks run this code instead of reading a file; `channel` is their socket."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return fake_python(
        folder,
        "from services.process.extract import child, server\n"
        f"def serve(channel):\n{lines}"
        "child.serve, child.preload = serve, lambda: None\n"
        "server.main()",
    )
