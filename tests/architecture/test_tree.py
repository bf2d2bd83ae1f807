"""What must not be in the repository, and what the lock files promise."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.repository import ROOT, files, shown, text_of

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[^\s;\\]+)(?: ; (?P<marker>[^\\]+?))? \\$")
LOCKS = ("requirements.lock", "requirements-dev.lock")

# Written in pieces, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:work|root|tmp|farm|home)/[A-Za-z]")
INDEX_ADDRESS = re.compile(
    r"(?:https?:)?//[\w.-]*(?:" + "|".join(("py" + "pi", "python" + "hosted", "npm" + "js")) + r")\b", re.IGNORECASE
)
FOREIGN_WORDS = re.compile(
    r"\b(?:"
    + "|".join(("ai " + "agent", "cla" + "ude", "chat" + "gpt", "co" + "pilot", "llm-" + "generated"))
    + r")\b",
    re.IGNORECASE,
)
MARKS = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX|HA" + r"CK)\b")
SECRETS = re.compile(r"AIza[0-9A-Za-z_-]{35}|-----BEGIN (?:RSA |EC )?PRIVATE KEY-----")

FORBIDDEN = {
    "paths of one machine": MACHINE_PATH,
    "addresses of package indexes": INDEX_ADDRESS,
    "words that are not about the product": FOREIGN_WORDS,
    "marks of work left undone": MARKS,
    "keys": SECRETS,
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_unwanted_is_committed(what: str) -> None:
    """No text file holds it."""
    found = [
        shown(path, number)
        for path in files()
        if path.suffix != ".lock" and path.name != "minilm-tokenizer.json" and (text := text_of(path)) is not None
        for number, line in enumerate(text.splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert found == []


def test_the_patterns_find_what_they_are_for() -> None:
    """Each pattern matches an example and leaves its harmless neighbours alone."""
    for pattern, bad, good in (
        (MACHINE_PATH, "open('/" + "work/main/x')", "GET /api/v1/jobs, gs://b/work/x, ~/tmp/x"),
        (INDEX_ADDRESS, "https://" + "py" + "pi.org/simple", "https://cloud.google.com/storage"),
        (FOREIGN_WORDS, "as an AI " + "agent", "the user agent of the client"),
        (MARKS, "# TO" + "DO later", "todo lists"),
        (SECRETS, "AIza" + "a" * 35, "AIza..."),
    ):
        assert pattern.search(bad)
        assert not pattern.search(good)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_has_a_hash_for_everything_and_no_address(lock: str) -> None:
    """Every pinned package has hashes, and where to get it is left to whoever installs."""
    name = None
    hashes: dict[str, int] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if pinned := _PIN.match(line):
            name = f"{pinned['name']}=={pinned['version']}"
            hashes[name] = 0
        elif line.startswith("    --hash=sha256:"):
            assert name is not None
            hashes[name] += 1
        else:
            assert line == "" or line.lstrip().startswith("#"), f"{lock}: {line}"
    assert hashes
    assert [name for name, count in hashes.items() if not count] == []
    assert "://" not in (ROOT / lock).read_text()


def test_locks_satisfy_what_is_declared() -> None:
    """Each dependency that pyproject.toml names is pinned to a version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    product = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    for lock, declared in zip(LOCKS, (product, [*product, *project["dependency-groups"]["dev"]]), strict=True):
        pins = _pins(ROOT / lock)
        for requirement in map(Requirement, declared):
            if requirement.name == project["project"]["name"]:  # an extra made of others, which stand here themselves
                continue
            versions = pins.get(canonicalize_name(requirement.name), {})
            assert versions, f"{lock} does not pin {requirement.name}"
            assert all(requirement.specifier.contains(version) for version in versions), f"{lock}: {requirement}"


def test_locks_agree() -> None:
    """The tools' lock holds the product's exactly: tests run what is shipped."""
    product, tools = (_pins(ROOT / lock) for lock in LOCKS)
    assert {name: tools.get(name) for name in product} == product


def _pins(lock: Path) -> dict[str, dict[str, str]]:
    """Return versions with their markers, by package."""
    found: dict[str, dict[str, str]] = {}
    for line in lock.read_text().splitlines():
        if pinned := _PIN.match(line):
            found.setdefault(canonicalize_name(pinned["name"]), {})[pinned["version"]] = pinned["marker"] or ""
    return found
