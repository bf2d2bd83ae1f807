"""Whatever happens to server or fork: no process, zombie or descriptor stays, and the next file is read."""

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from services.process.extract import forks
from services.process.extract.extractor import ChildExtractor
from shared.errors import HeadraceError, ReaderUnavailable, WorkerCrashed
from shared.model import media
from shared.model.document import Segment
from tests.plugins.stack import eventually
from tests.services.process.extract.processes import (
    ROOT,
    children,
    fake_python,
    forks_that,
    open_files,
    server_of,
    sockets,
)

MANUAL = ROOT / "cli" / "corpus" / "operations-manual.pdf"
SHIFT_LOG = ROOT / "cli" / "corpus" / "shift-log.txt"


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """Write a file whose reader has to wait for the consumer."""
    path = tmp_path / "a.txt"
    path.write_text("More lines than the socket can hold.\n" * 200_000)
    return path


@pytest.fixture
async def extractor(tmp_path: Path) -> AsyncIterator[ChildExtractor]:
    """Hand out an extractor and check at the end that nothing of it is left."""
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    before, files = children(), open_files()
    async with ChildExtractor(work_dir=work_dir, deadline_seconds=60, files_per_server=1_000) as extractor:
        yield extractor
    assert children() <= before
    assert list(work_dir.iterdir()) == []
    assert open_files() <= files


@pytest.fixture
def adopting() -> Iterator[None]:
    """Let this process inherit orphans, as the first process in a container does."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)
    yield
    ctypes.CDLL(None).prctl(set_child_subreaper, 0)


async def read(extractor: ChildExtractor, path: Path = MANUAL) -> list[Segment]:
    """Sniff and read a whole file."""
    return await collect(extractor.extract(path, media_type=extractor.sniff(path, name=path.name)))


async def collect(segments: AsyncIterator[Segment]) -> list[Segment]:
    """Read to the end."""
    return [segment async for segment in segments]


async def only_one_is_left() -> bool:
    """Say whether there is the present server and nothing else."""
    return len(children()) == 1


async def begun(stack: contextlib.AsyncExitStack, extractor: ChildExtractor, path: Path) -> AsyncIterator[Segment]:
    """Read the first segment of a text."""
    segments = await stack.enter_async_context(contextlib.aclosing(extractor.extract(path, media_type=media.TEXT)))
    await anext(segments)
    return segments


@pytest.mark.parametrize(
    ("cause", "code"), [(signal.SIGKILL, WorkerCrashed.code), (signal.SIGXCPU, "TOO_COMPLEX")], ids=["kill", "cpu"]
)
async def test_a_killed_fork_is_the_files_fault_only_when_its_time_was_up(
    extractor: ChildExtractor, long_text: Path, cause: signal.Signals, code: str
) -> None:
    """Killed by somebody, the file is tried again; out of processor time, it is refused; its neighbour goes on."""
    async with contextlib.AsyncExitStack() as stack:
        first = await begun(stack, extractor, long_text)
        (server, victim) = sorted(children(), key=lambda pid: pid != server_of(children()))
        second = await begun(stack, extractor, long_text)
        os.kill(victim, cause)
        with pytest.raises(HeadraceError) as caught:
            await collect(first)
        assert caught.value.code == code
        assert sum(len(segment.text) for segment in await collect(second)) > 7_000_000
    assert children() == {server}


async def test_a_server_that_is_killed_takes_its_forks_along(
    extractor: ChildExtractor, long_text: Path, adopting: None
) -> None:
    """It dies in the middle of three files: each is to be tried again, nothing stays, and the next file is read."""
    async with contextlib.AsyncExitStack() as stack:
        reading = [await begun(stack, extractor, long_text) for _ in range(3)]
        before = children()
        os.kill(server_of(before), signal.SIGKILL)
        for segments in reading:
            with pytest.raises(WorkerCrashed):
                await collect(segments)
        assert not children() & before
        assert len(await read(extractor)) == 7
    assert len(children()) == 1


async def test_an_idle_server_that_is_killed_is_not_noticed(extractor: ChildExtractor) -> None:
    """The next file is read by a new one, also when the end of the old one was not heard of yet."""
    await read(extractor, SHIFT_LOG)
    os.kill(server_of(children()), signal.SIGKILL)
    assert len(await read(extractor)) == 7


async def test_a_server_that_stopped_is_replaced(extractor: ChildExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer is killed, and the file is read by the next."""
    await read(extractor, SHIFT_LOG)
    stopped = server_of(children())
    os.kill(stopped, signal.SIGSTOP)
    monkeypatch.setattr(forks, "_ANSWER_SECONDS", 3.0)
    assert len(await read(extractor)) == 7
    assert stopped not in children()


async def test_a_server_is_replaced_after_its_number_of_files(tmp_path: Path, long_text: Path) -> None:
    """The file that is open goes on in the old one, which ends with it; the others are read by new ones."""
    async with ChildExtractor(work_dir=tmp_path, files_per_server=3) as extractor, contextlib.AsyncExitStack() as stack:
        servers = set()
        segments = await begun(stack, extractor, long_text)
        first = server_of(children())
        for _ in range(7):
            await read(extractor, SHIFT_LOG)
            servers |= children() & {child.pid for child in psutil.Process().children()}
        assert len(servers) == 3
        assert first in children()
        assert sum(len(segment.text) for segment in await collect(segments)) > 7_000_000
        await eventually(only_one_is_left, within_seconds=10)
        assert children() < servers
    assert not children()


async def test_two_hundred_files_leave_nothing_behind(extractor: ChildExtractor) -> None:
    """Descriptors here and in the server stay as many as they were, and so does the one process."""
    await read(extractor, SHIFT_LOG)
    server, files = psutil.Process(server_of(children())), open_files()
    held = server.num_fds()
    slots = asyncio.Semaphore(4)

    async def one() -> None:
        async with slots:
            await read(extractor, SHIFT_LOG)

    await asyncio.gather(*(one() for _ in range(200)))
    assert children() == {server.pid}
    assert (server.num_fds(), server.children()) == (held, [])
    assert open_files() <= files  # fewer, when something of an earlier test was collected meanwhile


async def test_forks_are_confined_and_share_nothing(extractor: ChildExtractor, long_text: Path) -> None:
    """Each has a session, limits and sockets of its own; the server has one thread and one socket."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await begun(stack, extractor, long_text)
        server = server_of(children())
        one, other = children() - {server}
        assert not sockets(one) & sockets(other)
        assert len(sockets(server)) == 1
        assert not sockets(server) & (sockets(one) | sockets(other))
        assert psutil.Process(server).num_threads() == 1
        for pid in (one, other):
            assert os.getsid(pid) == pid
            assert resource.prlimit(pid, resource.RLIMIT_CPU) == (3661, 3662)  # the deadline, and an hour of OCR
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
            assert Path(f"/proc/{pid}/cwd").readlink().parent.name == "work"


async def test_what_a_fork_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hostile content has brought about does not outlive its fork."""
    note = tmp_path / "pid"
    code = f"if not os.fork():\n    open({str(note)!r}, 'w').write(str(os.getpid()))\n    os.read(os.pipe()[0], 1)\n"
    wait = f"while not os.path.exists({str(note)!r}) or not os.path.getsize({str(note)!r}): pass\nos._exit(0)"
    monkeypatch.setattr(sys, "executable", str(forks_that(tmp_path, code + wait)))
    async with ChildExtractor(work_dir=tmp_path) as broken:
        with pytest.raises(WorkerCrashed, match="died"):
            await read(broken)
        pid = int(note.read_text())
        with contextlib.suppress(psutil.NoSuchProcess):  # it was sent the signal, and may be about to go
            psutil.Process(pid).wait(timeout=30)


async def test_leaving_early_ends_the_fork_at_once(extractor: ChildExtractor, long_text: Path) -> None:
    """A consumer that closes the iterator leaves only the server."""
    async with contextlib.AsyncExitStack() as stack:
        await begun(stack, extractor, long_text)
        assert len(children()) == 2
    assert len(children()) == 1


async def test_cancelling_the_consumer_ends_the_fork(extractor: ChildExtractor, long_text: Path) -> None:
    """A consumer that is cancelled between two segments is done only when its fork is reaped."""
    started = asyncio.Event()

    async def consume() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await begun(stack, extractor, long_text)
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await started.wait()
    assert len(children()) == 2
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(children()) == 1


@pytest.mark.parametrize("who", ["server", "fork"])
async def test_one_that_hangs_is_killed_when_the_reader_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """A reader that waits for what never answers can be cancelled, and takes its fork with it."""
    hang = "import time; time.sleep(600)"
    program = fake_python(tmp_path, hang) if who == "server" else forks_that(tmp_path, hang)
    monkeypatch.setattr(sys, "executable", str(program))
    before = children()
    async with ChildExtractor(work_dir=tmp_path) as hanging:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await read(hanging)
        assert len(children() - before) == 1
        assert not list(tmp_path.glob("extract-*"))
    assert children() <= before


@pytest.mark.parametrize("who", ["server", "fork"])
@pytest.mark.parametrize("noise", [b"\0\0\0\5hello" * 9, b"\xff" * 9, b"\0\0\0\2{}", b"\0\0\0\x10{}", b"{}", b""])
async def test_garbage_is_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: bytes, who: str) -> None:
    """One that says nonsense, stops in the middle or says nothing is killed; a fork's file is tried again."""
    if who == "server":
        program = fake_python(tmp_path, f"os.write(0, {noise!r})")
    else:
        program = forks_that(tmp_path, f"os.write(channel, {noise!r})")
    monkeypatch.setattr(sys, "executable", str(program))
    async with ChildExtractor(work_dir=tmp_path) as broken:
        with pytest.raises(ReaderUnavailable if who == "server" else WorkerCrashed):
            await read(broken)


async def test_a_worker_that_can_read_nothing_says_why_and_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image without a library: its name is in the log, no file was touched, and all goes on when it is there."""
    python = sys.executable
    monkeypatch.setattr(sys, "executable", str(fake_python(tmp_path, "import no_such_library")))
    with capture_logs() as logs:
        async with ChildExtractor(work_dir=tmp_path) as broken:
            with pytest.raises(ReaderUnavailable):
                await broken.ping()
            with pytest.raises(ReaderUnavailable, match="the file waits"):
                await read(broken)

            async def is_said() -> bool:
                return [entry["error"] for entry in logs if entry["event"] == "extract.server_unusable"][:1] == [
                    "ModuleNotFoundError: No module named 'no_such_library'"
                ]

            await eventually(is_said)
            monkeypatch.setattr(sys, "executable", python)
            await broken.ping()
            assert await read(broken)


async def test_a_worker_without_room_for_a_process_lets_its_files_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No program, no process or no folder to be had: no file is to blame, and the worker says that it is not ready."""
    async with ChildExtractor(work_dir=tmp_path, files_per_server=1) as crowded:
        assert await read(crowded)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
        for ask in (read(crowded), crowded.ping()):
            with pytest.raises(ReaderUnavailable):
                await ask
    async with ChildExtractor(work_dir=tmp_path / "no folder") as homeless:
        with pytest.raises(ReaderUnavailable):
            await read(homeless)


async def test_all_die_with_their_parent(tmp_path: Path, long_text: Path) -> None:
    """When the whole service is killed in the middle of a file, server and fork do not live on."""
    code = (
        "import asyncio, os, psutil, sys\n"
        "from pathlib import Path\n"
        "from services.process.extract.extractor import ChildExtractor\n"
        "async def main():\n"
        "    async with ChildExtractor(work_dir=Path(sys.argv[2])) as extractor:\n"
        "        await anext(extractor.extract(Path(sys.argv[1]), media_type='text/plain'))\n"
        "        print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(long_text), str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    orphans = []
    for pid in output.split():
        with contextlib.suppress(psutil.NoSuchProcess):  # gone already
            orphans.append(psutil.Process(int(pid)))
    assert len(output.split()) == 2
    _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, timeout=10)
    assert alive == []


async def test_no_process_sees_secrets(
    extractor: ChildExtractor, long_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent's environment, with its keys and addresses, is handed down neither to the server nor to forks."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    os.kill(server_of(children()), signal.SIGKILL)
    await read(extractor, SHIFT_LOG)
    async with contextlib.AsyncExitStack() as stack:
        await begun(stack, extractor, long_text)
        assert len(children()) == 2
        assert all("DATABASE_URL" not in psutil.Process(pid).environ() for pid in children())
