"""The checks can fail: each of these changes of one line is a mistake that somebody could make, and is found."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import HeadraceError
from tests.infra.terraform.all_checks import CHECKS
from tests.infra.terraform.mistake import REFUSED, Mutation
from tests.infra.terraform.mistakes import MUTATIONS as SEEN
from tests.infra.terraform.mistakes import WIRING
from tests.infra.terraform.mistakes_unseen import UNSEEN
from tests.infra.terraform.plan import Plan
from tests.infra.terraform.runner import SOURCE, VARIANTS, Refused, Terraform

MUTATIONS = SEEN + UNSEEN


def test_there_are_enough_of_them() -> None:
    """Every check but those of form is shown to fail, and thirty mistakes at least are tried."""
    assert len(MUTATIONS) >= 30
    assert {one.found_by for one in MUTATIONS} >= CHECKS.keys()


@pytest.fixture(scope="module")
def mutant(tf: Terraform, plan_of: Callable[[str], Plan], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Yield a copy of the root, initialised, for one mistake at a time."""
    copy = tmp_path_factory.mktemp("mutant") / "root"
    shutil.copytree(tf.root(), copy, symlinks=True)
    return copy


@contextmanager
def made(mutation: Mutation, root: Path) -> Iterator[None]:
    """Have the mistake in the root for the block."""
    path = root / mutation.file
    right = path.read_text()
    assert mutation.old in right, "the root has changed: bring this mistake up to date"
    path.write_text(right.replace(mutation.old, mutation.new, 1))
    try:
        yield
    finally:
        path.write_text(right)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.file}: {one.new[:40]}")
def test_a_mistake_is_found(mutation: Mutation, tf: Terraform, mutant: Path) -> None:
    """The check that should find the mistake fails, or there is no plan at all where that is said."""
    try:
        with made(mutation, mutant):
            plan = Plan(tf.plan(mutant, VARIANTS[mutation.variant]), mutation.variant)
    except Refused:
        assert mutation.found_by == REFUSED
        return
    assert mutation.found_by != REFUSED, "the plan was made all the same"
    with pytest.raises((AssertionError, ValueError, HeadraceError)):
        CHECKS[mutation.found_by](plan)


@pytest.mark.slow
@pytest.mark.parametrize("mutation", WIRING, ids=lambda one: f"{one.file}: {one.new[:40]}")
def test_a_wrong_wire_is_found(mutation: Mutation, tf: Terraform, mutant: Path) -> None:
    """The root's own test of what hangs on what fails."""
    with made(mutation, mutant), pytest.raises(Refused, match="1 failed"):
        tf.run(mutant, "test", "-no-color", f"-filter=tests/{mutation.found_by}")


def test_every_mistake_can_be_made() -> None:
    """Each stands on a line that is there: the table keeps step with the root without the slow tier."""
    gone = [one for one in MUTATIONS + WIRING if one.old not in (SOURCE / one.file).read_text()]
    assert gone == []
