"""Runs the programs that make files."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def run(*command: str | Path, stdin: bytes | None = None) -> bytes:
    """Run a program, stop at its first error, and return what it wrote."""
    done = subprocess.run([str(part) for part in command], check=True, input=stdin, stdout=subprocess.PIPE, timeout=60)
    return done.stdout


def libreoffice(source: Path, to: str, target: Path, *, reads: str = "") -> None:
    """Convert with LibreOffice; `to` is an extension or a filter of its."""
    folder = target.parent / "out"
    profile = f"-env:UserInstallation=file://{source.parent}/profile"
    filter_ = [f"--infilter={reads}"] if reads else []
    run("soffice", profile, "--headless", *filter_, "--convert-to", to, "--outdir", folder, source)
    (made,) = folder.iterdir()
    made.rename(target)
    folder.rmdir()


def pandoc(source: Path, target: Path, *options: str) -> None:
    """Convert with pandoc, to what the target's name or the options say."""
    run("pandoc", "-s", "--metadata", "lang=en", *options, source, "-o", target)


def node(part: str, work: Path, target: Path) -> None:
    """Run one part of `make.cjs`."""
    run("node", HERE / "make.cjs", part, work / "story.json", target)


def java(part: str, source: Path, target: Path) -> None:
    """Run one part of `Make.java`."""
    jars = ":".join(f"/usr/share/java/{name}.jar" for name in ("poi", "poi-scratchpad", "commons-collections4"))
    run("java", "-Djava.awt.headless=true", "-cp", jars, HERE / "Make.java", part, source, target)
