"""The bootstrap script: first use, every later use, and what it says when something is missing."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "headrace"
TOOLS = ("sh", "dirname", "readlink", "sed", "grep", "sha256sum", "cut", "rm", "mkdir", "mv", "tail", "cat")
SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
TOOL_COUNT_LINE = "installing 1 packages"


@dataclass
class Checkout:
    """A temporary checkout with one tiny package to install, from a folder instead of a network."""

    root: Path
    wheels: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def script(self) -> Path:
        """The copied script."""
        return self.root / "headrace"

    @property
    def venv(self) -> Path:
        """What the script makes."""
        return self.root / ".venv"

    def run(self, *arguments: str, by: list[str] | None = None, cwd: Path | None = None, **env: str) -> Result:
        """Run the script to its end."""
        argv = [*(by or [str(self.script)]), *arguments]
        done = subprocess.run(
            argv,
            cwd=cwd or self.root.parent,
            env={**self.environment, **env},
            text=True,
            capture_output=True,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Result:
    """How one run ended."""

    status: int
    out: str
    err: str


def make_checkout(root: Path, wheels: Path) -> Checkout:
    """Copy the script beside a tiny `cli` package and lock files for one tiny wheel."""
    root.mkdir(parents=True)
    wheels.mkdir(parents=True, exist_ok=True)
    shutil.copy2(SCRIPT, root / "headrace")
    (root / "cli").mkdir()
    (root / "cli" / "__init__.py").touch()
    (root / "cli" / "__main__.py").write_text("import sys, tinypart\nprint('cli', sys.argv[1:], sys.prefix)\n")
    lock(root, build_wheel(wheels, "tinypart"))
    home = root.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HEADRACE_PYTHON": sys.executable,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": wheels.as_uri(),  # pip splits the value at spaces
    }
    return Checkout(root, wheels, environment)


def build_wheel(folder: Path, name: str) -> Path:
    """Write a wheel with one module."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "VALUE = 1\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text)}\n"
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return wheel


def lock(root: Path, *wheels: Path) -> None:
    """Write both lock files for these wheels."""
    lines = [
        f"{wheel.name.split('-')[0]}==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        for wheel in wheels
    ]
    for name in ("requirements.lock", "requirements-dev.lock"):
        (root / name).write_text("".join(lines))


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Python whose `-m venv` copies an environment that was made once: the real one takes seconds."""
    base = tmp_path_factory.mktemp("quick")
    subprocess.run([sys.executable, "-m", "venv", base / "template"], check=True)
    return wrapped_python(base / "python", on_venv=f"cp -a '{base}/template/.' \"$3\"")


def wrapped_python(program: Path, *, on_venv: str) -> Path:
    """Write a program that is this Python, but for `-m venv FOLDER`."""
    program.write_text(f'#!/bin/sh\ncase "$*" in "-m venv "*) {on_venv} ;; *) exec "{sys.executable}" "$@" ;; esac\n')
    program.chmod(0o755)
    return program


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, quick_python: Path) -> Checkout:
    """Give a checkout after its first run; tests leave it usable."""
    base = tmp_path_factory.mktemp("boot strap")  # the space is meant
    checkout = make_checkout(base / "check out", base / "wheels")
    checkout.environment["HEADRACE_PYTHON"] = str(quick_python)
    first = checkout.run("jobs", "list")
    assert first.status == 0, first.err
    assert TOOL_COUNT_LINE in first.err
    assert first.out == f"cli ['jobs', 'list'] {checkout.venv}\n"
    return checkout


@pytest.fixture
def fresh(tmp_path: Path, quick_python: Path) -> Checkout:
    """Give a checkout before its first run."""
    checkout = make_checkout(tmp_path / "checkout", tmp_path / "wheels")
    checkout.environment["HEADRACE_PYTHON"] = str(quick_python)
    return checkout


def fake_path(tmp_path: Path, **programs: str) -> str:
    """Make a PATH that holds a few tools and these programs, and no real Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(str(shutil.which(tool)))
    for name, body in programs.items():
        program = folder / name.replace("_", ".")
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    return str(folder)


def test_the_second_run_installs_nothing(installed: Checkout) -> None:
    """A complete environment is used as it is, without a word and without asking pip."""
    stamp = (installed.venv / ".headrace-stamp").stat().st_mtime_ns
    again = installed.run("jobs", PIP_FIND_LINKS="/nowhere")
    assert (again.status, again.err) == (0, "")
    assert (installed.venv / ".headrace-stamp").stat().st_mtime_ns == stamp


def test_it_works_through_a_symlink_and_from_anywhere(installed: Checkout, tmp_path: Path) -> None:
    """A relative or absolute link to the script finds the checkout; a folder named like our package is ignored."""
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "absolute").symlink_to(installed.script)
    (tmp_path / "relative").symlink_to(os.path.relpath(installed.script, tmp_path))
    (tmp_path / "twice").symlink_to("relative")
    for name in ("absolute", "relative", "twice"):
        result = installed.run("x", by=[f"./{name}"], cwd=tmp_path)
        assert (result.status, result.out, result.err) == (0, f"cli ['x'] {installed.venv}\n", "")


def test_a_changed_lock_is_installed(installed: Checkout) -> None:
    """When the lock file names another package, the next run adds it."""
    lock(installed.root, build_wheel(installed.wheels, "tinypart"), build_wheel(installed.wheels, "otherpart"))
    result = installed.run("x")
    assert result.status == 0, result.err
    assert "installing 2 packages" in result.err
    check = installed.run("dev", "python", "-c", "import otherpart, tinypart; print('both')")
    assert check.out == "both\n"


def test_the_users_python_variables_do_no_harm(installed: Checkout) -> None:
    """PYTHONHOME and PYTHONPATH of the caller are not used; without HOME everything works too."""
    result = installed.run("x", PYTHONHOME="/nowhere", PYTHONPATH="/nowhere")
    assert (result.status, result.err) == (0, "")
    del (without_home := dict(installed.environment))["HOME"]
    done = subprocess.run([installed.script, "x"], env=without_home, check=False, capture_output=True)
    assert done.returncode == 0


def test_named_tests_run_alone(installed: Checkout) -> None:
    """`test` with a path runs only pytest, with the arguments as they are, from where the user stands."""
    (installed.root / "tests").mkdir()
    pytest_stand_in = Path(site_packages(installed)) / "pytest.py"
    pytest_stand_in.write_text("import os, sys\nprint('pytest', sys.argv[1:], os.getcwd())\n")
    try:
        result = installed.run("test", "-k", "x", "tests", cwd=installed.root.parent)
        assert result.out == f"pytest ['-k', 'x', 'tests'] {installed.root}\n"
        slow = installed.run("test", "--slow", cwd=installed.root.parent)
        assert (
            slow.out
            == f"pytest ['-n', '2', '--dist', 'loadscope', '-m', 'slow', '-o', 'timeout=1500'] {installed.root}\n"
        )
    finally:
        pytest_stand_in.unlink()


def test_a_failing_check_stops_before_the_tests(installed: Checkout) -> None:
    """`test` without names checks first; the first failure ends it with its status and says which one it was."""
    ruff = Path(site_packages(installed)) / "ruff.py"
    ruff.write_text("raise SystemExit(3)\n")
    try:
        result = installed.run("test")
        assert result.status == 3
        assert "FAILED: format (ruff format)" in result.err
        assert "pytest" not in result.err + result.out
    finally:
        ruff.unlink()


def site_packages(checkout: Checkout) -> str:
    """Ask the environment where its packages are."""
    return checkout.run("dev", "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").out.strip()


@pytest.mark.slow
def test_the_real_venv_module_makes_the_environment(fresh: Checkout) -> None:
    """The first run with nothing but a plain Python ends in a working environment."""
    result = fresh.run("x", HEADRACE_PYTHON=sys.executable)
    assert (result.status, result.out) == (0, f"cli ['x'] {fresh.venv}\n"), result.err


def test_an_unfinished_installation_is_made_anew(fresh: Checkout) -> None:
    """After an interruption in the middle of pip, a package that is only half there is repaired."""
    assert fresh.run("x").status == 0
    Path(site_packages(fresh), "tinypart.py").unlink()
    (fresh.venv / ".headrace-unfinished").touch()
    result = fresh.run("x")
    assert result.status == 0, result.err
    assert TOOL_COUNT_LINE in result.err


def test_a_run_killed_while_the_environment_is_made_is_repaired(fresh: Checkout, tmp_path: Path) -> None:
    """What a kill -9 of the script leaves behind in the middle is replaced by the next run."""
    killer = wrapped_python(tmp_path / "killer", on_venv='mkdir -p "$3/bin"; kill -9 $PPID')
    assert fresh.run("x", HEADRACE_PYTHON=str(killer)).status == -9
    result = fresh.run("x")
    assert result.status == 0, result.err


def test_a_moved_checkout_makes_its_environment_anew(fresh: Checkout, tmp_path: Path) -> None:
    """An environment that was made elsewhere, or whose Python is gone, is replaced."""
    assert fresh.run("x").status == 0
    moved = Checkout(fresh.root.rename(tmp_path / "moved"), fresh.wheels, fresh.environment)
    result = moved.run("x")
    assert result.status == 0, result.err
    assert result.out == f"cli ['x'] {moved.venv}\n"
    for python in (moved.venv / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/nowhere/python")
    result = moved.run("x")
    assert result.status == 0, result.err


def test_two_at_once_install_once(fresh: Checkout) -> None:
    """Of two first runs at the same time one installs and the other waits for it."""
    runs = [
        subprocess.Popen(
            [fresh.script, "x"], env=fresh.environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    errors = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert "".join(errors).count(TOOL_COUNT_LINE) == 1


def test_a_failed_installation_shows_what_pip_said(fresh: Checkout) -> None:
    """When a package cannot be had, the last lines of pip are shown; the next run tries again and succeeds."""
    result = fresh.run("x", PIP_FIND_LINKS="/nowhere")
    assert result.status == 1
    assert "pip failed" in result.err
    assert "No matching distribution found for tinypart" in result.err
    assert fresh.run("x").status == 0


def test_a_file_with_another_hash_is_refused(fresh: Checkout) -> None:
    """A wheel that is not the locked one is not installed."""
    with (fresh.wheels / "tinypart-1.0-py3-none-any.whl").open("ab") as wheel:
        wheel.write(b"changed")
    result = fresh.run("x")
    assert result.status == 1
    assert "DO NOT MATCH THE HASHES" in result.err.upper()


@pytest.mark.parametrize("shell", SHELLS)
class TestWithoutAUsablePython:
    """One line says what is missing and what to do, in every shell."""

    def refuse(self, checkout: Checkout, shell: str, path: str, **env: str) -> str:
        """Run with that PATH; expect a refusal and return its one line."""
        environment = {name: value for name, value in checkout.environment.items() if name != "HEADRACE_PYTHON"}
        done = subprocess.run(
            [str(shutil.which(shell)), checkout.script, "x"],
            env={**environment, "PATH": path, **env},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert not checkout.venv.exists()
        return done.stderr

    def test_none_at_all(self, fresh: Checkout, tmp_path: Path, shell: str) -> None:
        """Without any Python the package to install is named."""
        assert "apt install python3 python3-venv" in self.refuse(fresh, shell, fake_path(tmp_path))

    def test_too_old(self, fresh: Checkout, tmp_path: Path, shell: str) -> None:
        """An old Python is named with its version."""
        message = self.refuse(fresh, shell, fake_path(tmp_path, python3="echo 3.8"))
        assert "python3 is 3.8" in message
        assert "3.11 or newer" in message

    def test_an_old_one_is_passed_over(self, fresh: Checkout, tmp_path: Path, shell: str) -> None:
        """A newer one under another name is taken; here it lacks its venv module, whose package is named."""
        body = 'case "$*" in *ensurepip*) exit 1 ;; *) echo 3.12 ;; esac'
        path = fake_path(tmp_path, python3="echo 3.8", python3_12=body)
        assert "apt install python3.12-venv" in self.refuse(fresh, shell, path)

    def test_a_named_one_that_does_not_run(self, fresh: Checkout, tmp_path: Path, shell: str) -> None:
        """A wrong HEADRACE_PYTHON is an error of its own, even when another Python would do."""
        message = self.refuse(fresh, shell, fake_path(tmp_path, python3="echo 3.12"), HEADRACE_PYTHON="/nowhere/python")
        assert "HEADRACE_PYTHON (/nowhere/python) does not run" in message

    def test_an_incomplete_checkout(self, fresh: Checkout, tmp_path: Path, shell: str) -> None:
        """A missing lock file is named."""
        (fresh.root / "requirements.lock").unlink()
        assert "requirements.lock is missing" in self.refuse(fresh, shell, fake_path(tmp_path))
