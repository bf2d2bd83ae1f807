"""Child processes: readiness, orderly and forced ends, and death with the parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared.errors import DependencyUnavailable
from shared.local.process import ChildProcess, before_exec, free_port, run_to_end

ROOT = Path(__file__).resolve().parents[3]

SERVER = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have handed it down as ignored
print("ready", flush=True)
while True:
    signal.pause()
"""


async def said_ready(child: ChildProcess) -> bool:
    """Ready when it says so."""
    return child.printed("ready") is not None


def python(tmp_path: Path, code: str, **options: object) -> ChildProcess:
    """Describe a child that runs `code`."""
    argv = [sys.executable, "-S", "-c", code]
    return ChildProcess("demo", argv, log_path=tmp_path / "demo.log", ready=said_ready, **options)  # type: ignore[arg-type]


async def test_a_child_is_ready_inside_and_gone_outside(tmp_path: Path) -> None:
    """Inside the block the child runs; after it, its process has ended by the first stop signal."""
    async with python(tmp_path, SERVER) as child:
        os.kill(child.pid, 0)
        assert child.returncode is None
    assert child.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


async def test_a_child_that_ignores_its_signals_is_killed(tmp_path: Path) -> None:
    """When the grace time of every stop signal is over, the child is killed."""
    async with python(tmp_path, STUBBORN, stop=((signal.SIGTERM, 0.05),)) as child:
        pass
    assert child.returncode == -signal.SIGKILL


async def test_stop_signals_are_sent_in_turn(tmp_path: Path) -> None:
    """A second signal is tried before the kill."""
    async with python(tmp_path, STUBBORN, stop=((signal.SIGTERM, 0.05), (signal.SIGINT, 5.0))) as child:
        pass
    assert child.returncode not in {-signal.SIGKILL, -signal.SIGTERM}


async def test_a_cancelled_stop_kills_at_once(tmp_path: Path) -> None:
    """Cancelling while the child is given time to end leaves no process behind."""
    child = python(tmp_path, STUBBORN, stop=((signal.SIGTERM, 600.0),))
    await child.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.stop()
    assert child.returncode == -signal.SIGKILL


async def test_a_child_that_ends_while_starting_tells_its_last_words(tmp_path: Path) -> None:
    """The error of a failed start holds the status and the end of the output."""
    child = python(tmp_path, "print('no such folder'); raise SystemExit(3)")
    with pytest.raises(DependencyUnavailable, match=r"(?s)demo ended with status 3.*no such folder"):
        await child.start()


async def test_a_child_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    """A start that takes too long fails, and the process is gone."""
    child = python(tmp_path, "import signal; signal.pause()", ready_seconds=0.1)
    with pytest.raises(DependencyUnavailable, match="not ready after"):
        await child.start()
    assert child.returncode is not None


async def test_a_program_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """A missing program is reported like any server that does not start."""
    child = ChildProcess("demo", [tmp_path / "missing"], log_path=tmp_path / "demo.log", ready=said_ready)
    with pytest.raises(DependencyUnavailable, match="demo cannot be started"):
        await child.start()


async def test_the_end_is_noticed_and_the_child_can_start_again(tmp_path: Path) -> None:
    """Whoever kills the child, waiting for its end returns; a second start is a new process with a fresh log."""
    async with python(tmp_path, SERVER) as child:
        first = child.pid
        os.kill(first, signal.SIGKILL)
        assert await child.wait_ended() == -signal.SIGKILL
        await child.start()
        assert child.pid != first
        assert (tmp_path / "demo.log.old").read_text() == "ready\n"


async def test_the_log_is_emptied_when_it_is_too_long(tmp_path: Path) -> None:
    """A log beyond its bound starts again; one within stays."""
    async with python(tmp_path, SERVER) as child:
        child.trim_log(100)
        assert (tmp_path / "demo.log").read_text() == "ready\n"
        child.trim_log(3)
        assert (tmp_path / "demo.log").read_text() == ""


async def test_nothing_of_our_environment_reaches_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child sees the environment that was named, not ours."""
    monkeypatch.setenv("PGDATA", "/elsewhere")
    output = await run_to_end([sys.executable, "-S", "-c", "import os; print(os.environ.get('PGDATA'))"])
    assert output.strip() == "None"


async def test_a_command_that_fails_or_hangs_is_reported(tmp_path: Path) -> None:
    """One-time commands fail with their last lines, and do not run on after their time."""
    with pytest.raises(DependencyUnavailable, match=r"(?s)status 2.*broken"):
        await run_to_end([sys.executable, "-S", "-c", "print('broken'); raise SystemExit(2)"])
    with pytest.raises(DependencyUnavailable, match="took longer"):
        await run_to_end([sys.executable, "-S", "-c", "import signal; signal.pause()"], seconds=0.1)


def test_children_are_started_from_the_main_thread_only() -> None:
    """Anywhere else the child would die with the thread, so it is refused."""
    errors: list[BaseException] = []

    def start() -> None:
        try:
            before_exec(signal.SIGKILL)
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


PARENT = """
import asyncio, sys
from pathlib import Path
from shared.local.process import ChildProcess
async def ready(child): return child.printed("ready") is not None
async def main():
    code = "import signal; print('ready', flush=True); signal.pause()"
    argv = [sys.executable, "-S", "-c", code]
    async with ChildProcess("demo", argv, log_path=Path(sys.argv[1]), ready=ready) as child:
        print(child.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children of a killed parent")
def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the process that started it, the kernel ends the child."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "demo.log")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        try:
            signal_readable(child)
        finally:
            os.close(child)


def signal_readable(pidfd: int) -> None:
    """Wait, within a bound, until the process behind a pidfd has ended."""
    import select

    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    assert poller.poll(5000), "the process did not end"


def test_a_free_port_can_be_bound() -> None:
    """Two asks in a row give ports that somebody can listen on."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))
