"""The Dockerfile, read and acted out without an engine: its COPY and RUN steps, with `/` moved to a folder.

What is parsed is the subset that our Dockerfile keeps to: exec form only, no heredocs, no shell. Anything else is
refused, so that nothing is tested in a form that an engine would understand differently.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("api", "ingest", "process", "recover", "migrate")
INSTALL_SECONDS = 300
_LISTS = {"RUN", "CMD", "ENTRYPOINT"}


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its name, its `--flags`, and its words (of the JSON list, where it has that form)."""

    name: str
    flags: tuple[str, ...]
    words: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands between two FROMs."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)


@cache
def stages(text: str | None = None) -> tuple[dict[str, str], dict[str, Stage]]:
    """Return the global build arguments with their defaults, and the stages by name, in order.

    Raises:
        ValueError: a line is not of the subset that is understood here.
    """
    arguments: dict[str, str] = {}
    found: dict[str, Stage] = {}
    stage: Stage | None = None
    for number, line in _lines(text if text is not None else (ROOT / "Dockerfile").read_text()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, word, stage_name = rest.split()
            if word != "AS":
                raise ValueError(f"line {number}: a stage without a name")
            stage = found[stage_name] = Stage(stage_name, base)
        elif stage is None:
            key, _, value = rest.partition("=")
            if name != "ARG" or not value:
                raise ValueError(f"line {number}: only arguments with defaults stand before the first stage")
            arguments[key] = value
        else:
            stage.steps.append(_step(number, name, rest))
    return arguments, found


def _lines(text: str) -> Iterator[tuple[int, str]]:
    started, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        started = started if parts else number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.endswith("\\"):
            yield started, " ".join(parts)
            parts = []


def _step(number: int, name: str, rest: str) -> Step:
    words = rest.split(" ")
    flags = []
    while words and words[0].startswith("--"):
        flags.append(words.pop(0))
    said = " ".join(words)
    if name == "HEALTHCHECK" and said != "NONE":
        command, _, said = said.partition(" ")
        if command != "CMD":
            raise ValueError(f"line {number}: HEALTHCHECK without CMD")
    if name in _LISTS or (name == "HEALTHCHECK" and said != "NONE"):
        try:
            listed = json.loads(said)
        except ValueError:
            raise ValueError(f"line {number}: {name} is not in exec form") from None
        return Step(name, tuple(flags), tuple(listed), number)
    return Step(name, tuple(flags), tuple(said.split()), number)


def steps_of(target: str) -> list[Step]:
    """Return what makes a stage up, from the base image on."""
    _, found = stages()
    stage = found[target]
    return [*(steps_of(stage.base) if stage.base in found else ()), *stage.steps]


def builder_of(target: str) -> str:
    """Return the stage that a target copies its files from; there is exactly one."""
    (builder,) = {
        flag.removeprefix("--from=") for step in steps_of(target) for flag in step.flags if step.name == "COPY"
    }
    return builder


def last(target: str, name: str) -> Step:
    """Return the instruction of this name that counts."""
    return [step for step in steps_of(target) if step.name == name][-1]


def environment(target: str) -> dict[str, str]:
    """Return what the ENV instructions of a stage say."""
    pairs = (word.partition("=") for step in steps_of(target) if step.name == "ENV" for word in step.words)
    return {key: value for key, _, value in pairs}


def ignored(path: str) -> bool:
    """Say whether .dockerignore keeps a file out of the build; for the patterns that ours uses."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            parts = path.split("/")
            names = ["/".join(parts[: n + 1]) for n in range(len(parts))] + (parts if "**/" in line else [])
            if any(fnmatch.fnmatchcase(name, pattern) and name.count("/") == pattern.count("/") for name in names):
                out = not line.startswith("!")
    return out


@dataclass(frozen=True, slots=True)
class Image:
    """A target as a folder: `venv` and `app` lie in it as they lie in the image's root."""

    target: str
    root: Path

    def command(self, *words: str) -> list[str]:
        """Return the image's command, or another one, as it starts here."""
        program, *arguments = words or last(self.target, "CMD").words
        return [str(self.root / "venv" / "bin" / program), *arguments]

    def environment(self, said: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of a container: what the image says, what is said besides, and nothing of ours."""
        own = {name: self.moved(value) for name, value in environment(self.target).items() if name != "PATH"}
        return own | {"PATH": f"{self.root / 'venv' / 'bin'}:/usr/bin:/bin"} | dict(said)

    def moved(self, word: str) -> str:
        """Return an absolute path of the image as it is here."""
        return str(self.root) + word if word.split("/")[:2] in (["", "venv"], ["", "app"]) else word


def build(target: str, folder: Path) -> Image:
    """Act out the steps that make a target, in `folder`; a lock that was installed there before is linked from there.

    Raises:
        subprocess.CalledProcessError: a step failed; its output is in the error.
    """
    image = Image(target, folder / target)
    image.root.mkdir(parents=True)
    lock = ROOT
    for step in steps_of(builder_of(target)):
        if step.name == "COPY" and step.words[-1] == "/requirements.lock":
            lock = ROOT / step.words[0]
        elif step.name == "COPY":
            _copy(step.words[0], image.root / step.words[1].removeprefix("/"))
        elif step.name == "RUN":
            if "pip" in step.words and (made := _installed(folder, lock)) is not None:
                shutil.rmtree(image.root / "venv")
                shutil.copytree(made, image.root / "venv", symlinks=True, copy_function=os.link)
                continue
            program, *words = (str(lock) if word == "/requirements.lock" else image.moved(word) for word in step.words)
            _run([sys.executable if program == "python" else program, *words])
            if "pip" in step.words:
                (image.root / "lock").write_bytes(lock.read_bytes())
    return image


def _installed(folder: Path, lock: Path) -> Path | None:
    equal = [path for path in folder.glob("*/lock") if path.read_bytes() == lock.read_bytes()]
    return equal[0].parent / "venv" if equal else None


def _copy(source: str, to: Path) -> None:
    paths = [ROOT / source] if (ROOT / source).is_file() else sorted((ROOT / source).rglob("*"))
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        if path.is_file() and not ignored(name):
            target = to / path.relative_to(ROOT / source) if (ROOT / source).is_dir() else to
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _run(words: list[str]) -> None:
    done = subprocess.run(
        words, cwd="/", capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, words, done.stdout[-2000:], done.stderr[-2000:])
