"""Who may import whom: the contracts in pyproject.toml, and proof that they bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.repository import PRODUCT, ROOT, TOP_LEVEL_NAMES, python_files

_LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"

FORBIDDEN = {
    "a service that knows another": ("services/recover/run.py", "import services.process.handler", "services stand"),
    "a service that starts a server": ("services/api/app.py", "import shared.local.stack", "start embedded servers"),
    "a handler that knows Postgres": ("services/ingest/handler.py", "import shared.postgres.pool", "use cases see"),
    "a handler that knows a vendor": ("services/process/handler.py", "import asyncpg", "use cases see ports"),
    "an adapter that knows another": ("shared/postgres/outbox.py", "import shared.pubsub.publisher", "is layered"),
    "a port that knows its adapter": ("shared/ports/storage.py", "import shared.storage.gcs", "is layered"),
    "a model that knows its events": ("shared/model/job.py", "import shared.events.catalogue", "is layered"),
    "a vendor outside its adapter": ("services/api/web.py", "import google.auth", "Google's clients"),
    "wiring outside the root": ("services/process/document.py", "import shared.runtime.wiring", "composition root"),
    "a product that knows the cli": ("services/laptop.py", "import cli.look", "cli on services"),
    "a drawer for everything": ("shared/utils.py", "", "is layered"),
}


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the repository, or of a copy of it."""
    return subprocess.run(
        [sys.executable, "-c", _LINT, "--no-cache"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "", "COLUMNS": "300", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_contracts_are_kept() -> None:
    """Every import follows the rules in pyproject.toml."""
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("what", FORBIDDEN)
def test_contracts_bite(what: str, tmp_path: Path) -> None:
    """An import that breaks a rule is refused, by the rule that is meant."""
    file, line, rule = FORBIDDEN[what]
    for folder in PRODUCT:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{line}\n")
    checked = lint_imports(tmp_path)
    broken = [said for said in checked.stdout.splitlines() if said.endswith("BROKEN")]
    assert checked.returncode == 1
    assert any(rule in said for said in (broken or [checked.stdout])), checked.stdout


def test_packages_are_ours_alone() -> None:
    """Nothing that is installed brings a package of our names, which would merge into ours without a word."""
    owners = packages_distributions()
    assert {name: owners[name] for name in TOP_LEVEL_NAMES if set(owners.get(name, [])) - {"headrace"}} == {}


def test_packages_cannot_be_joined() -> None:
    """Each package of the product has an `__init__.py`, so that no other folder of its name adds to it."""
    folders = {path.parent for path in python_files(*PRODUCT)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_linter_bans_what_has_one_place() -> None:
    """The environment and the time are read in one module each; ruff refuses every other."""
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    banned = ruff["flake8-tidy-imports"]["banned-api"]
    assert {"os.environ", "os.getenv", "datetime.datetime.now", "datetime.datetime.utcnow", "time.time"} <= set(banned)
    allowed = {pattern for pattern, rules in ruff["per-file-ignores"].items() if "TID251" in rules}
    assert allowed == {"shared/settings.py", "shared/clock.py", "benchmarks/**", "tests/**"}
    assert "TID" in ruff["select"]
