"""The embedded Postgres: what is in it, what it survives, and who may use it."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from shared.errors import ConfigurationError
from shared.local import cluster
from shared.local.postgres import EmbeddedPostgres
from shared.local.process import run_to_end
from tests.plugins.postgres import PostgresServer

ROOT = Path(__file__).resolve().parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes to another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that another user can pass through."""
    with TemporaryDirectory(prefix="headrace-tests-") as made:
        Path(made).chmod(0o711)
        yield Path(made)


async def ask(dsn: str, statement: str) -> object:
    """Run one statement in a connection of its own and return its first value."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_the_product_role_owns_its_database_and_is_no_superuser(empty_database_url: str) -> None:
    """The product connects as an ordinary role, with pgvector there and a schema it may create tables in."""
    dsn = empty_database_url
    assert await ask(dsn, "select current_user || ' ' || rolsuper from pg_roles where rolname = current_user") == (
        "headrace false"
    )
    assert await ask(dsn, "select '[1,2]'::halfvec(2) <-> '[1,4]'::halfvec(2)") == 2.0
    await ask(dsn, "create table owned (id int)")
    assert await ask(dsn, "show timezone") == "UTC"


async def test_no_tcp_port_is_open_and_the_socket_is_private(postgres_server: PostgresServer) -> None:
    """Only a Unix socket in a folder closed to others leads in."""
    assert await ask(postgres_server.dsn("headrace"), "show listen_addresses") == ""
    mode = postgres_server.server.socket_directory.stat().st_mode
    assert stat.S_IMODE(mode) == 0o700


def test_each_test_database_is_a_clone_of_its_own(postgres_server: PostgresServer) -> None:
    """Two databases from one template do not see each other's tables, and are gone afterwards."""
    run, dsn = postgres_server.run, postgres_server.dsn
    with postgres_server.database() as one, postgres_server.database() as two:
        run(ask(dsn(one), "create table only_here (id int)"))
        assert run(ask(dsn(two), "select to_regclass('only_here')::text")) is None
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        run(ask(dsn(one), "select 1"))


async def test_committed_rows_survive_a_killed_server(folder: Path) -> None:
    """After kill -9 and a start again, what was committed is there, at the same address."""
    async with EmbeddedPostgres(folder / "pg") as server:
        dsn = server.dsn()
        await ask(dsn, "create table kept as select 42 as answer")
        first = server.pid
        await server.kill9()
        assert await server.wait_ended() == -signal.SIGKILL
        await server.start()
        assert server.pid != first
        assert await ask(dsn, "select answer from kept") == 42
    async with EmbeddedPostgres(folder / "pg") as server:
        assert await ask(server.dsn(), "select answer from kept") == 42


async def test_an_interrupted_first_start_leaves_nothing_half_made(folder: Path) -> None:
    """Rests of a start that was killed while it made the cluster are removed, and the cluster is made anew."""
    (folder / "pg" / ".new-killed").mkdir(parents=True)
    (folder / "pg").chmod(0o711)
    async with EmbeddedPostgres(folder / "pg", durable=False) as server:
        assert await ask(server.dsn(), "select 1") == 1
    assert not list((folder / "pg").glob(".new-*"))
    assert not exists(server.socket_directory)


async def test_a_second_server_on_the_same_folder_is_refused(folder: Path) -> None:
    """The error names the process that uses the folder."""
    async with EmbeddedPostgres(folder / "pg", durable=False):
        with pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()}"):
            await EmbeddedPostgres(folder / "pg").__aenter__()


PARENT = """
import asyncio, sys
from pathlib import Path
from shared.local.postgres import EmbeddedPostgres
from shared.local.process import run_to_end
async def main():
    async with EmbeddedPostgres(Path(sys.argv[1]), durable=False) as server:
        print(server.pid, server.socket_directory, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children of a killed parent")
async def test_a_killed_parent_leaves_a_cluster_that_starts_at_once(folder: Path) -> None:
    """After kill -9 of the process that ran it, the next start takes over and cleans up its socket folder."""
    orphan, sockets = start_and_kill_a_parent(folder / "pg")
    async with EmbeddedPostgres(folder / "pg", durable=False) as server:
        assert await ask(server.dsn(), "select 1") == 1
        assert ended(orphan), "the orphan still runs"
        assert server.socket_directory != sockets
    assert not exists(sockets)


def start_and_kill_a_parent(data_dir: Path) -> tuple[int, Path]:
    """Kill a process that runs a server; return a pidfd of the postmaster and its socket folder."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        pid, sockets = parent.stdout.readline().split()
        postmaster = os.pidfd_open(int(pid))
        parent.kill()
    return postmaster, Path(sockets)


def ended(pidfd: int) -> bool:
    """Say whether the process has ended, and close the pidfd."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    try:
        return bool(poller.poll(0))
    finally:
        os.close(pidfd)


def exists(path: Path) -> bool:
    """Ask the file system, outside of coroutines."""
    return path.exists()


async def test_a_note_of_a_dead_server_is_no_obstacle(folder: Path) -> None:
    """A postmaster.pid whose number belongs to another process of today does not stop the start."""
    async with EmbeddedPostgres(folder / "pg", durable=False) as server:
        home = server.home
    (home / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n{home / 'cluster'}\n")
    async with EmbeddedPostgres(folder / "pg", durable=False) as server:
        assert await ask(server.dsn(), "select 1") == 1


@needs_root
async def test_root_runs_it_as_nobody(folder: Path) -> None:
    """The server's process belongs to the unprivileged user, and so do its files."""
    owner = cluster.unprivileged_owner()
    assert owner is not None
    async with EmbeddedPostgres(folder / "pg", durable=False) as server:
        assert os.stat(f"/proc/{server.pid}").st_uid == owner.uid  # noqa: PTH116
        assert (server.home / "cluster").stat().st_uid == owner.uid


@needs_root
async def test_private_folders_are_not_opened_up(folder: Path) -> None:
    """Where nobody cannot pass, the cluster lives elsewhere and every folder keeps its mode."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    async with EmbeddedPostgres(private / "pg", durable=False, root_home=folder / "elsewhere") as server:
        assert await ask(server.dsn(), "select 1") == 1
        assert server.home.parent == folder / "elsewhere"
        assert (server.home / "belongs-to").read_text().strip() == str(private / "pg")
        first = server.home
    async with EmbeddedPostgres(private / "pg", durable=False, root_home=folder / "elsewhere") as server:
        assert server.home == first
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@needs_root
def test_removing_the_data_directory_removes_what_is_kept_elsewhere(folder: Path) -> None:
    """Where the cluster lives elsewhere, a new data directory of the same name means a new cluster, and no rest."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    owner = cluster.unprivileged_owner()
    first = cluster.choose_home(private / "pg", owner, folder / "elsewhere")
    shutil.rmtree(private / "pg")
    second = cluster.choose_home(private / "pg", owner, folder / "elsewhere")
    assert [path.name for path in (folder / "elsewhere").iterdir()] == [second.name]
    assert second.name != first.name


@needs_root
async def test_binaries_out_of_reach_are_copied_once(folder: Path) -> None:
    """Programs below a closed folder run from a copy that keeps their libraries beside them."""
    installed = cluster.find_binaries()
    (folder / "closed").mkdir(mode=0o700)
    package = folder / "closed" / installed.root.parent.name
    shutil.copytree(installed.root, package / installed.root.name, symlinks=True)
    shutil.copytree(installed.libraries, folder / "closed" / installed.libraries.name)
    unreachable = cluster.Binaries(
        package / installed.root.name, folder / "closed" / installed.libraries.name, installed.version
    )
    owner = cluster.unprivileged_owner()
    usable = cluster.usable_binaries(unreachable, folder, owner)
    assert cluster.reachable(usable.bin / "initdb", owner)
    assert "PostgreSQL" in await run_to_end([usable.bin / "initdb", "--version"], owner=owner)
    made = (usable.bin / "initdb").stat().st_ino
    assert (cluster.usable_binaries(unreachable, folder, owner).bin / "initdb").stat().st_ino == made


async def test_a_cluster_of_another_user_is_refused(folder: Path) -> None:
    """A cluster that belongs to somebody else ends in a sentence, not in a permission error of the server."""
    (folder / "cluster").mkdir()
    stranger = cluster.Owner("stranger", os.geteuid() + 1, os.getegid())
    with pytest.raises(ConfigurationError, match="belongs to user id"):
        await cluster.ensure_cluster(folder, cluster.find_binaries(), stranger, durable=False)


def test_reach_is_judged_by_every_folder_above(folder: Path) -> None:
    """One closed folder on the way is enough to be out of reach."""
    owner = cluster.Owner("stranger", 54321, 54321)
    if not cluster.reachable(folder, owner):
        pytest.skip("the folder for temporary files is itself closed to others")
    (folder / "open" / "deep").mkdir(parents=True)
    assert cluster.reachable(folder / "open" / "deep", owner)
    (folder / "open").chmod(0o700)
    assert not cluster.reachable(folder / "open" / "deep", owner)
