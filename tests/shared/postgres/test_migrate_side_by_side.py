"""Old and new code run side by side on one schema: what an expanding migration may do, and the last release's suite.

From the second release on, the tests of the release before are run on today's expanded schema: its code, from its tag,
with the expanding migrations of today in the place of its own.
"""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from shared.local.process import MINIMAL_ENVIRONMENT
from shared.postgres.migrate import is_outside, migrations, outside_statements
from shared.postgres.queries import read
from tests.plugins.stack import ROOT

MIGRATIONS = Path("shared/postgres/sql/migrations")
RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
SUITE = ("tests/shared/postgres", "tests/component")
NOT_ABOUT_THE_SCHEMA = "not test_migrations_reach_the_schema and not test_migrate"
"""The old release's own comparison of its migrations with its schema.sql cannot hold on today's schema."""

# What would break code that knows only the schema before. Indexes and triggers are not named by code.
DESTRUCTIVE = {
    "drops what old code may use": r"\bdrop (?:table|column|view|type|function|schema|sequence|policy|role|domain)\b",
    "drops a column": r"\balter table [^;]*\bdrop (?!constraint|not null|default|index)(?:if exists )?\w",
    "renames": r"\brename\b",
    "changes a type": r"\balter (?:column )?\w+ (?:set data )?type\b",
    "demands a value that old code does not give": r"\badd (?:column )?(?:if not exists )?(?!constraint\b)\w+ "
    r"(?:(?!default|generated)[^,;])*\bnot null\b(?:(?!default|generated)[^,;])*(?=[,;]|$)",
    "demands a value that was optional": r"\bset not null\b",
    "takes a default away": r"\bdrop default\b",
    "takes a right away": r"\brevoke (?!execute on function \w+\([^)]*\) from public)",
    "empties a table": r"\btruncate\b|\bdelete from\b",
    "forbids what was allowed": r"\balter table [^;]*\badd (?:constraint \w+ )?(?:check|unique|foreign key|exclude)\b",
}


def statements(text: str) -> str:
    """Return a migration without comments and function bodies, in one line and small letters."""
    text = re.sub(r"--[^\n]*", "", text)
    text = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", text, flags=re.DOTALL)
    return " ".join(text.lower().split())


def complaints(text: str) -> list[str]:
    """Say what an expanding migration does that it must not do. A table that the same file makes may be changed."""
    said = statements(text)
    for table in re.findall(r"create table (\w+)", said):
        said = re.sub(rf"alter table {table} [^;]*;?", "", said)
    return [what for what, pattern in DESTRUCTIVE.items() if re.search(pattern, said)]


@pytest.mark.parametrize("name", [name for name in migrations() if "_expand_" in name])
def test_expanding_migration_breaks_no_old_code(name: str) -> None:
    """A file that says it expands drops, renames, narrows and demands nothing."""
    assert complaints(read(f"migrations/{name}")) == []


def test_migrations_outside_a_transaction_can_be_gone_on_with() -> None:
    """Files that run outside a transaction build indexes that can be built again; there may be none yet."""
    for text in (read(f"migrations/{name}") for name in migrations()):
        assert not is_outside(text) or outside_statements(text)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("drop table outbox;", "drops what old code may use"),
        ("alter table jobs drop column lane;", "drops what old code may use"),
        ("alter table jobs drop lane;", "drops a column"),
        ("alter table jobs rename column lane to road;", "renames"),
        ("ALTER TABLE jobs ALTER COLUMN id TYPE text;", "changes a type"),
        ("alter table jobs alter id set data type text;", "changes a type"),
        ("alter table jobs add column lane text not null;", "demands a value that old code does not give"),
        (
            "alter table jobs add column a int not null default 0, add column b text not null;",
            "demands a value that old code does not give",
        ),
        ("alter table jobs alter column lane set not null;", "demands a value that was optional"),
        ("alter table jobs alter lane drop default;", "takes a default away"),
        ("revoke select on jobs from headrace_api;", "takes a right away"),
        ("delete from jobs;", "empties a table"),
        ("alter table jobs add constraint few check (priority < 9);", "forbids what was allowed"),
    ],
)
def test_destructive_statement_is_noticed(statement: str, complaint: str) -> None:
    """Each kind of statement that breaks old code is found."""
    assert complaint in complaints(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "alter table jobs add column lane text, add column b int not null default 0;",
        "create table places (name text not null); alter table places add constraint c check (name <> '');",
        "drop index jobs_queue; create index jobs_queue on jobs (lane);",
        "alter table jobs drop constraint few;",
        "alter table jobs alter column lane drop not null;",
        "-- drop table outbox\ncreate function f() returns int language sql as $$ delete from jobs returning 1 $$;",
        "revoke execute on function f(text) from public; grant execute on function f(text) to headrace_process;",
    ],
)
def test_harmless_statement_is_left_alone(statement: str) -> None:
    """What adds or loosens is no reason to complain."""
    assert complaints(statement) == []


def git(root: Path, *arguments: str) -> bytes:
    """Run git and return what it printed."""
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def previous_release(root: Path) -> str | None:
    """Return the tag of the newest release before the one that is checked out; None when there is none."""
    tags = git(root, "tag", "--list", "--merged", "HEAD").decode().split()
    here = set(git(root, "tag", "--list", "--points-at", "HEAD").decode().split())
    releases = {tag: tuple(map(int, match.groups())) for tag in tags if (match := RELEASE.fullmatch(tag))}
    return max((tag for tag in releases if tag not in here), key=lambda tag: releases[tag], default=None)


def lay_out(root: Path, tree: str, migrations_of: Path, to: Path) -> None:
    """Put the files of an older tree into a folder, with the expanding migrations of today."""
    with tarfile.open(fileobj=io.BytesIO(git(root, "archive", tree))) as archive:
        # Our own tree; Python before 3.11.4 knows no filters.
        archive.extractall(to, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    kept = set((to / MIGRATIONS).glob("*.sql"))
    for file in sorted(migrations_of.glob("*.sql")):
        if "_expand_" in file.name:
            shutil.copy(file, to / MIGRATIONS / file.name)
    assert kept <= set((to / MIGRATIONS).glob("*.sql"))


async def run_suite(folder: Path, *arguments: str) -> None:
    """Run tests of an older tree; its failures are shown."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments),
        cwd=folder,
        env=MINIMAL_ENVIRONMENT | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-4000:]


def repository() -> Path:
    """Return the repository, or skip and say why it cannot be asked."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("the release before this one is found by its tag: git, or the repository, is missing here")
    return ROOT


@pytest.mark.slow
async def test_the_release_before_runs_on_todays_schema(tmp_path: Path) -> None:
    """Every test of stores and handlers of the release before passes on today's expanded schema."""
    root = repository()
    tag = previous_release(root)
    if tag is None:
        pytest.skip("there is no release before this one: no tag like v1.2.3 (a shallow clone has no tags either)")
    lay_out(root, tag, root / MIGRATIONS, tmp_path)
    await run_suite(tmp_path, "-k", NOT_ABOUT_THE_SCHEMA, *SUITE)


@pytest.mark.slow
async def test_an_older_tree_runs_with_newer_migrations(tmp_path: Path) -> None:
    """How the release before is tested works: shown with the tree of now, which a breaking migration fails."""
    root = repository()
    newer, tree = tmp_path / "newer", tmp_path / "tree"
    tree.mkdir()
    shutil.copytree(root / MIGRATIONS, newer)
    (newer / "9000_expand_harmless.sql").write_text("alter table documents add column newer text;\n")
    (newer / "9001_contract_later.sql").write_text("drop table outbox cascade;\n")
    lay_out(root, "HEAD", newer, tree)
    tests = ("-k", "claim and not test_migrate", "tests/shared/postgres/test_queue.py")
    await run_suite(tree, *tests)
    (newer / "9002_expand_wrongly.sql").write_text("alter table outbox rename to inbox;\n")
    lay_out(root, "HEAD", newer, tree)
    with pytest.raises(AssertionError, match="outbox"):
        await run_suite(tree, *tests)


def test_the_release_before_is_found_by_its_tag(tmp_path: Path) -> None:
    """The newest release counts, by number and not by alphabet; neither the present one nor other tags."""
    if shutil.which("git") is None:
        pytest.skip("git is missing here")
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    assert previous_release(tmp_path) is None
    for number, tag in enumerate(("v0.9.0", "v0.10.0", "nightly", "v0.11.0-rc1", "v0.11.0")):
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", str(number))
        git(tmp_path, "tag", tag)
    assert previous_release(tmp_path) == "v0.10.0"
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "on the way to the next")
    assert previous_release(tmp_path) == "v0.11.0"
