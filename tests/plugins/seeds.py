"""Random sequences of the steps of `permutations.py`, from seeds; what fails is made short."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from tests.plugins.permutations import CONTENTS, FAULTS, NAMES, OVERTAKING, OWNERS, Permutations, Run
from tests.plugins.road import Road

STEPS = 25
Step = tuple[str, dict[str, Any]]

WEIGHTS = {
    "write": 6,
    "write_the_same_again": 1,
    "delete": 1,
    "describe": 2,
    "deliver": 8,
    "lose": 1,
    "ring": 9,
    "work_off": 2,
    "recover": 2,
    "go_on": 4,
    "overtake": 9,
    "break_the_model": 2,
    "wait": 2,
    "decide_by_hand": 1,
}
LAST_POINTS = {"deliver": (3, 4, 10), "ring": (8, 16, 24), "recover": (8, 40)}
"""Points at which something goes wrong; not each run passes so many."""


def drawn(sequence: Permutations, chance: random.Random) -> Iterator[Step]:
    """Draw steps that have something to act upon, one after the other."""
    for _ in range(chance.randint(STEPS // 2, STEPS)):
        possible = [name for name in WEIGHTS if sequence.can(name)]
        [name] = chance.choices(possible, [WEIGHTS[name] for name in possible])
        yield name, _arguments(name, chance)


def _arguments(name: str, chance: random.Random) -> dict[str, Any]:
    pick = chance.randrange(1 << 16)
    fault = None
    if name in LAST_POINTS and chance.random() < 0.6:
        fault = chance.choice(FAULTS), chance.randint(0, chance.choice(LAST_POINTS[name]))
    draws: dict[str, Callable[[], dict[str, Any]]] = {
        "write": lambda: {
            "name": chance.choice(NAMES),
            "lines": chance.choice(CONTENTS),
            "owner": chance.choice((None, None, None, *OWNERS)),
        },
        "write_the_same_again": lambda: {"name": chance.choice(NAMES)},
        "delete": lambda: {"name": chance.choice(NAMES)},
        "describe": lambda: {
            "name": chance.choice(NAMES),
            "owner": chance.choice(OWNERS),
            "note": chance.choice("xy"),
        },
        "deliver": lambda: {"pick": pick, "keep": chance.random() < 0.3, "fault": fault},
        "ring": lambda: {"pick": pick, "keep": chance.random() < 0.3, "fault": fault},
        "recover": lambda: {"fault": fault},
        "go_on": lambda: {"pick": pick, "dies": chance.random() < 0.3},
        "overtake": lambda: {"by": chance.choice(OVERTAKING), "at": chance.randint(2, 16)},
        "lose": lambda: {"pick": pick},
        "break_the_model": lambda: {"pick": pick},
        "wait": lambda: {"seconds": chance.choice((10.0, 65.0, 400.0, 4000.0))},
        "decide_by_hand": lambda: {"pick": pick, "retry": chance.random() < 0.5},
    }
    return draws.get(name, dict)()


def failure_of(
    road: Road, run: Run, seed: int, steps: Callable[[Permutations], Iterable[Step]]
) -> tuple[Exception | None, list[Step], Counter[str]]:
    """Run a sequence; return what is wrong with it, the steps that were taken, and what they came to."""
    sequence = Permutations(road, run, versioned=seed % 2 == 0, ascending=seed % 4 < 2, once_more=seed % 5 == 0)
    taken: list[Step] = []
    try:
        for step in steps(sequence):
            taken.append(step)
            name, arguments = step
            getattr(sequence, name)(**arguments)
        sequence.end()
    except Exception as error:
        sequence.abandon()
        return error, taken, sequence.seen
    return None, taken, sequence.seen


def run_sequences(road: Road, run: Run, count: int, *, first_seed: int) -> Counter[str]:
    """Run so many sequences; return what their steps came to.

    Raises:
        AssertionError: one failed; the message has its seed and the fewest of its steps that fail too.
    """
    seen: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + count):
        error, taken, came_to = failure_of(road, run, seed, partial(drawn, chance=random.Random(seed)))
        seen.update(came_to)
        if error is not None:
            raise _shortest(road, run, seed, taken, error) from error
    return seen


def _shortest(road: Road, run: Run, seed: int, taken: list[Step], error: Exception) -> AssertionError:
    for index in reversed(range(len(taken))):
        fewer = taken[:index] + taken[index + 1 :]
        still, _, _ = failure_of(road, run, seed, lambda _, fewer=fewer: fewer)  # type: ignore[misc]
        if still is not None:
            taken, error = fewer, still
    shown = "\n".join(f"  {name} {arguments}" for name, arguments in taken)
    return AssertionError(f"seed {seed}: {error!r}\n{shown}")
