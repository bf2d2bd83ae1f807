"""The catalogue of error codes holds exactly what the code says, and says the same about retrying."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from shared import errors
from shared.codes import BY_PLACE, CATALOGUE, Place, find
from tests.architecture.repository import PRODUCT, ROOT, python_files, shown, tree_of

CATALOGUE_FILE = ROOT / "shared" / "codes.py"
NAMES_OF_CODES = {"code", "error_code"}
"""Arguments, attributes and variables that hold a code."""

_CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_SQL_CODE = re.compile(r"\b(?:error_code|code|deferred_reason)\b\s*(?:=|:=|<>|in \()\s*'([A-Z][A-Z0-9_]+)'")


def is_product(path: Path) -> bool:
    """Leave out the embedded endpoint of Pub/Sub: its codes are the statuses of that service's API, stored nowhere."""
    return "local" not in path.relative_to(ROOT).parts


@cache
def named() -> dict[str, str]:
    """Return the codes that modules give a name to."""
    return {
        target.id: statement.value.value
        for path in filter(is_product, python_files(*PRODUCT))
        for statement in tree_of(path).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name) and _CODE.fullmatch(str(statement.value.value))
    }


def constants(node: ast.AST | None) -> Iterator[str]:
    """Yield the codes an expression can be: a literal, a constant, or one of the two sides of a condition."""
    match node:
        case ast.Name(id=name) if name in named():
            yield named()[name]
        case ast.Constant(value=str(text)) if _CODE.fullmatch(text):
            yield text
        case ast.IfExp(body=one, orelse=other):
            yield from constants(one)
            yield from constants(other)


def said(node: ast.AST) -> Iterator[str]:  # noqa: PLR0912 - one case for each way to write a code
    """Yield the codes that one node of a syntax tree gives to something named as a code."""
    match node:
        case ast.keyword(arg=str(name), value=value) if name in NAMES_OF_CODES:
            yield from constants(value)
        case ast.Assign(targets=[ast.Name(id=name) | ast.Attribute(attr=name)], value=value) if name in NAMES_OF_CODES:
            yield from constants(value)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if name in NAMES_OF_CODES:
            yield from constants(value)
        case ast.MatchClass(kwd_attrs=names, kwd_patterns=patterns):
            for name, pattern in zip(names, patterns, strict=True):
                if name in NAMES_OF_CODES and isinstance(pattern, ast.MatchValue):
                    yield from constants(pattern.value)
        case ast.Compare(left=ast.Attribute(attr=name) | ast.Name(id=name), comparators=others):
            if name in NAMES_OF_CODES:
                for other in others:
                    yield from constants(other)
        case ast.Dict(keys=keys, values=values):
            for key, value in zip(keys, values, strict=True):
                if isinstance(key, ast.Constant) and key.value in NAMES_OF_CODES:
                    yield from constants(value)
        case ast.FunctionDef(name="code_of"):
            for part in ast.walk(node):
                if isinstance(part, ast.Return):
                    yield from constants(part.value)


def codes_in_use() -> dict[str, set[str]]:
    """Return every code in Python and SQL, with the places that say it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in filter(is_product, python_files(*PRODUCT)):
        if path != CATALOGUE_FILE:
            for node in ast.walk(tree_of(path)):
                for code in said(node):
                    found[code].add(shown(path))
    for path in (ROOT / "shared" / "postgres" / "sql").rglob("*.sql"):
        for code in _SQL_CODE.findall(path.read_text()):
            found[code].add(shown(path))
    return dict(found)


def raised() -> Iterator[tuple[str, type[errors.HeadraceError], str]]:
    """Yield each code with the class of error that carries it, and where."""
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.HeadraceError)
    }
    for name, kind in classes.items():
        if "code" in vars(kind):
            yield kind.code, kind, f"shared/errors.py: {name}"
    for path in filter(is_product, python_files(*PRODUCT)):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in classes:
                for keyword in node.keywords:
                    for code in said(keyword):
                        yield code, classes[node.func.id], shown(path, node.lineno)


def test_every_code_is_in_the_catalogue() -> None:
    """Whoever meets a code finds it explained: add it to shared/codes.py when you add it to the code."""
    known = {entry.code for entry in CATALOGUE}
    assert {code: places for code, places in codes_in_use().items() if code not in known} == {}


def test_every_entry_of_the_catalogue_is_used() -> None:
    """A code that nothing says any more is not explained any more."""
    assert {entry.code for entry in CATALOGUE} - set(codes_in_use()) == set()


def test_the_catalogue_agrees_with_the_classes_about_retrying() -> None:
    """Whether something is tried again is decided by the class that is raised; the catalogue says the same."""
    wrong = []
    for code, kind, place in raised():
        if kind is errors.HeadraceError:  # what is unknown has no class; it is retried like what may pass
            assert find(code) == find("INTERNAL")
        elif (entry := find(code)) is not None and entry.retryable != issubclass(kind, errors.RetryableError):
            wrong.append(f"{code} is raised as {kind.__name__} in {place}")
    assert wrong == []


def test_the_catalogue_names_each_code_once_and_says_everything() -> None:
    """Codes are unique and sorted within their group, and every entry has its sentences."""
    codes = [entry.code for entry in CATALOGUE]
    assert len(codes) == len(set(codes))
    assert all(_CODE.fullmatch(code) for code in codes)
    assert list(BY_PLACE) == list(Place)
    for entries in BY_PLACE.values():
        assert [entry.code for entry in entries] == sorted(entry.code for entry in entries)
    for entry in CATALOGUE:
        for sentence in (entry.meaning, entry.action, entry.origin):
            assert sentence.endswith("."), entry.code
            assert "|" not in sentence, entry.code


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ('class E(Exception):\n    code = "A_B"', {"A_B"}),
        ('raise E("x", code="A" if y else "B")', {"A", "B"}),
        ('log.info("x", error_code="A")', {"A"}),
        ('match e:\n    case E(code="A"): pass', {"A"}),
        ('if e.code == "A": pass', {"A"}),
        ('{"code": "A"}', {"A"}),
        ('status(code="lower"); f(other="A")', set()),
    ],
)
def test_the_search_sees_codes(source: str, codes: set[str]) -> None:
    """Every way in which the product writes a code is found, so that the tests above can fail."""
    assert {code for node in ast.walk(ast.parse(source)) for code in said(node)} == codes
