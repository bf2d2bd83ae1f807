"""What the repository holds, for tests about the repository itself."""

from __future__ import annotations

import ast
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("shared", "services", "cli")
TOP_LEVEL_NAMES = (*PRODUCT, "tests", "docs", "benchmarks")


@cache
def files() -> tuple[Path, ...]:
    """Return every file that is or would be committed; everything but hidden and ignored folders where git is not."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        listed = subprocess.run(
            [git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        names = listed.stdout.decode().split("\0")
        return tuple(sorted(path for name in names if name and (path := ROOT / name).is_file()))
    found = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if not any(_is_made(part) for part in path.relative_to(ROOT).parts)))


def _is_made(part: str) -> bool:
    return part == "__pycache__" or (part.startswith(".") and part not in {".ci", ".gitignore"})


def python_files(*folders: str) -> list[Path]:
    """Return the Python files below these folders of the repository."""
    return [path for path in files() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders]


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a Python file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def shown(path: Path, line: int | None = None) -> str:
    """Return a path as people write it here, with a line if there is one."""
    name = path.relative_to(ROOT).as_posix()
    return name if line is None else f"{name}:{line}"


def text_of(path: Path) -> str | None:
    """Return a file's text; None when it is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
