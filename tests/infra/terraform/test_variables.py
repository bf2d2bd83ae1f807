"""Every variable of the root changes the plan: one that changes nothing is ignored somewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.infra.terraform.checks_variables import ARRIVALS, EVERYWHERE, WRITTEN, Arrival, arrived
from tests.infra.terraform.plan import Plan
from tests.infra.terraform.runner import REQUIRED, VARIANTS

LINES = [(variant, line) for variant, lines in ARRIVALS.items() for line in lines]


def _names(plan: Plan) -> Iterator[str]:
    """Yield the variables of a plan, and of those with parts (not maps, whose keys are nobody's) each part."""
    for name in plan.configuration["root_module"]["variables"]:
        value = plan.given[name]
        if isinstance(value, dict) and name not in {"labels", "settings"}:
            yield from (f"{name}.{part}" for part in value)
        elif name != "network":  # which is nothing by default; other variants show its parts
            yield name


def test_every_variable_is_looked_for(plan_of: Callable[[str], Plan]) -> None:
    """Each variable, and each part of one, has a line that says where it arrives; and no line is of another."""
    declared = {name for variant in VARIANTS for name in _names(plan_of(variant))}
    lines = {line[0] for _, line in LINES}
    assert lines | WRITTEN.keys() | EVERYWHERE == declared


@pytest.mark.parametrize(("variant", "line"), LINES, ids=[f"{line[0]}-{variant}" for variant, line in LINES])
def test_a_variable_changes_the_plan(variant: str, line: Arrival, plan_of: Callable[[str], Plan]) -> None:
    """Where it arrives the plan says what was given, and says something else when it is not given."""
    variable, address, path, value = line
    assert variable.split(".")[0] in VARIANTS[variant], "the variant does not give it"
    assert arrived(plan_of(variant), address, path) == value
    assert arrived(plan_of("default"), address, path) != value


@pytest.mark.parametrize("name", sorted(REQUIRED.keys() - EVERYWHERE))
def test_what_has_to_be_said_is_said_in_two_ways(name: str) -> None:
    """A variable without a default has another value in some variant, or nothing could show that it is heard."""
    assert any(given.get(name, REQUIRED[name]) != REQUIRED[name] for given in VARIANTS.values())
