"""Habits that a reader can rely on: sizes, sentences, names, and tests that do not wait by the clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.postgres import queries
from tests.architecture.repository import PRODUCT, ROOT, python_files, shown, tree_of

MAX_LINES = 400
MAX_LINES_OF_A_TEST = 500
"""A suite about one thing may be longer than a module: it is read a test at a time."""

DRAWERS = {"utils", "util", "common", "helpers", "helper", "base", "misc", "manager", "lib"}


def test_files_are_small() -> None:
    """No file is longer than can be kept in mind; one that grows is split by idea."""
    bounds = dict.fromkeys(python_files(*PRODUCT, "docs", "benchmarks"), MAX_LINES)
    bounds |= dict.fromkeys(python_files("tests"), MAX_LINES_OF_A_TEST)
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in bounds}
    assert {shown(path): lines for path, lines in lengths.items() if lines > bounds[path]} == {}


def test_modules_are_named_for_what_they_hold() -> None:
    """No module is a drawer into which anything fits."""
    named = {path.stem for path in python_files(*PRODUCT)} | {path.parent.name for path in python_files(*PRODUCT)}
    assert named & DRAWERS == set()


def test_every_test_says_what_it_shows() -> None:
    """Each test function opens with one sentence of behaviour."""
    mute = [shown(path, test.lineno) for path, test in _tests() if not (ast.get_docstring(test) or "").endswith(".")]
    assert mute == []


def test_no_test_sleeps() -> None:
    """Tests wait for a signal or move the clock; giving others a turn (zero seconds) is not waiting."""
    assert [
        shown(path, node.lineno)
        for path in python_files("tests")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "sleep"}
        and ast.unparse(node.args[0]) != "0"
    ] == []


def test_every_query_is_prepared_by_a_test() -> None:
    """Each file of queries is among those that the schema's test prepares, so no statement meets Postgres untested."""
    folder = ROOT / "shared" / "postgres" / "sql"
    there = {path.stem for path in folder.glob("*.sql")} - {"schema"}
    assert there == set(_query_files())


@pytest.mark.parametrize("file", sorted(path.stem for path in (ROOT / "shared/postgres/sql").glob("*.sql")))
def test_every_query_is_used_and_described(file: str) -> None:
    """A named query is called by its module, and its first line says what it does."""
    if file == "schema":
        return
    sources = "\n".join(path.read_text() for path in python_files("shared") if "postgres" in path.parts)
    unused = [query.name for query in queries.load(file) if f".{query.name}" not in sources]
    mute = [query.name for query in queries.load(file) if not query.sql.startswith("-- ")]
    assert (unused, mute) == ([], [])


def test_sql_stands_in_its_files() -> None:
    """The adapter of Postgres is the only place that runs statements, and it keeps them in `sql/`."""
    runs = {"fetch", "fetchrow", "fetchval", "executemany"}
    found = [
        shown(path, node.lineno)
        for path in python_files(*PRODUCT)
        if path.parent != ROOT / "shared" / "postgres" and shown(path) not in _ASKS_ITS_OWN_SERVER
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in runs
    ]
    assert found == []


_ASKS_ITS_OWN_SERVER = {"shared/local/postgres.py", "shared/local/cluster.py"}


def _query_files() -> tuple[str, ...]:
    """Return the names that tests/shared/postgres/test_schema.py prepares."""
    for node in tree_of(ROOT / "tests/shared/postgres/test_schema.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "QUERY_FILES":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError("test_schema.py has no QUERY_FILES")


def _tests() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in python_files("tests"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield path, node
