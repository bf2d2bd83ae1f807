"""The arithmetic of docs/scale.md, done again from the page's own first table and the root's defaults."""

from __future__ import annotations

import math
import re

import pytest

from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "scale.md").read_text()
SIZES = (ROOT / "infra" / "terraform" / "variables_services.tf").read_text()
DATABASE = (ROOT / "infra" / "terraform" / "variables_database.tf").read_text()
PER_MINUTE = 1000


def default(variable: str, attribute: str) -> int:
    """Return the default of one size of a service."""
    body = re.search(rf'^variable "{variable}" \{{(.*?)^\}}', SIZES, re.MULTILINE | re.DOTALL)
    assert body is not None
    found = re.search(rf"\b{attribute} += optional\(number, (\d+)\)", body[1])
    assert found is not None
    return int(found[1])


def figure(pattern: str) -> float:
    """Return the one number that the page says at a place."""
    (found,) = re.findall(pattern, PAGE)
    return float(found)


def others() -> int:
    """Return the connections that are not of process: the root's own sum, without it."""
    return (
        default("api", "pool_size") * default("api", "max_instances")
        + default("ingest", "pool_size") * default("ingest", "max_instances")
        + default("recover", "pool_size") * (default("recover", "max_instances") + 1)
        + 15
    )


def test_a_day_of_the_middle_column() -> None:
    """Vectors, memory and disk of a day follow from what one file costs."""
    files = PER_MINUTE * 24 * 60
    vectors = files * figure(r"passages, each with a vector \| ([\d.]+) ")
    assert figure(r"A day of 1,000 a minute adds ([\d.]+) million") == pytest.approx(vectors / 1e6, rel=0.01)
    assert figure(r"adds [\d.]+ million: (\d+) GB of memory") == pytest.approx(vectors * 3e3 / 1e9, rel=0.02)
    disk = files * figure(r"index entry \| (\d+) kB \|") * 1e3
    assert figure(r"of memory and (\d+) GB of disk") == pytest.approx(disk / 1e9, rel=0.01)


def test_instances_keep_a_slot_for_the_interactive_lane() -> None:
    """The jobs in hand of an import fit the slots that it may take."""
    jobs = figure(r"jobs in hand at 2 s each \| 1 \| (\d+) \|")
    assert math.ceil(PER_MINUTE / 60 * 2) == jobs
    of_two, of_four = re.findall(r"(\d+) instances of 2, or (\d+) of 4 \(", PAGE)[0]
    assert (int(of_two), int(of_four)) == (math.ceil(jobs / 1), math.ceil(jobs / 3))


def test_connections_are_those_that_the_root_counts() -> None:
    """The page's sum is the root's, and what it sets holds it while the default does not."""
    (instances, pool, rest, total) = map(
        int,
        re.findall(r"(\d+) instances × (\d+), twice during a roll-out, and (\d+) for the others.*? are (\d+):", PAGE)[
            0
        ],
    )
    assert rest == others()
    assert pool == 4 + 2
    assert total == 2 * instances * pool + rest
    (standard,) = re.findall(r'variable "database_max_connections".*?default     = (\d+)', DATABASE, re.DOTALL)
    assert int(standard) < total <= figure(r"`database_max_connections = (\d+)`")


def test_stacks_add_up_to_the_largest_size() -> None:
    """So many stacks of the middle column are the right one."""
    stacks, files = re.findall(r"so (\d+) stacks of ([\d,]+) files a minute are \d+ times", PAGE)[0]
    assert int(stacks) * int(files.replace(",", "")) == 100_000
