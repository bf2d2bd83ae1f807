"""One provider for a session, and one plan for each variant of the root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from tests.infra.terraform.plan import Plan
from tests.infra.terraform.runner import VARIANTS, Missing, Terraform, terraform


@pytest.fixture(scope="session")
def tf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    """Yield Terraform with a provider, or skip and say what is missing."""
    try:
        with terraform(tmp_path_factory.mktemp("terraform")) as opened:
            yield opened
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def plan_of(tf: Terraform) -> Callable[[str], Plan]:
    """Return what gives the plan of a variant."""
    if not tf.plans:
        pytest.skip("the real provider plans nothing without a project: no plan of infra/terraform was looked at")

    @cache
    def made(variant: str) -> Plan:
        return Plan(tf.plan(tf.root(), VARIANTS[variant]), variant)

    return made
