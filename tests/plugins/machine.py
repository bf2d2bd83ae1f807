"""The steps of `permutations.py` as a state machine of hypothesis: each acts upon something, failures are shrunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.plugins.crashes import Fault
from tests.plugins.permutations import CONTENTS, FAULTS, NAMES, OVERTAKING, OWNERS, Permutations, Run
from tests.plugins.road import Road

picks = st.integers(0, 7)
seldom = st.sampled_from((False, False, True))


def faults(last: int) -> st.SearchStrategy[tuple[Fault, int] | None]:
    """Draw what goes wrong and at which point; or nothing."""
    return st.none() | st.tuples(st.sampled_from(FAULTS), st.integers(0, last))


def can(step: str) -> Callable[[Any], bool]:
    """Let a rule be taken only when its step has something to act upon."""
    return lambda machine: machine.sequence.can(step)


class Sequences(RuleBasedStateMachine):
    """One sequence. `road`, `run` and `seen` are set by `explore`."""

    road: Road
    run: Run
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.sequence: Permutations | None = None
        self.failed = False

    @initialize(versioned=st.booleans(), ascending=st.booleans())
    def begin(self, versioned: bool, ascending: bool) -> None:
        """Begin with an empty bucket."""
        self.sequence = Permutations(self.road, type(self).run, versioned=versioned, ascending=ascending)

    def act(self, step: str, /, **arguments: Any) -> None:
        """Take a step."""
        assert self.sequence is not None
        try:
            getattr(self.sequence, step)(**arguments)
        except Exception:
            self.failed = True
            raise

    def teardown(self) -> None:
        """Hold the end to be right."""
        if self.sequence is None:
            return
        try:
            if not self.failed:
                self.act("end")
                self.seen.update(self.sequence.seen)
        finally:
            if self.failed:
                self.sequence.abandon()

    @property
    def live(self) -> list[str]:
        """Return what is in the bucket."""
        return sorted(self.road.bucket.objects)

    @rule(name=st.sampled_from(NAMES), lines=st.sampled_from(CONTENTS), owner=st.sampled_from((None, *OWNERS)))
    def write(self, **arguments: Any) -> None:
        self.act("write", **arguments)

    @rule(name=st.sampled_from(NAMES), lines=st.sampled_from(CONTENTS), owner=st.sampled_from((None, *OWNERS)))
    def write_and_hear(self, **arguments: Any) -> None:
        """Without this, few sequences would get as far as a bell."""
        self.act("write", **arguments)
        self.act("deliver", pick=len(self.sequence.notifications) - 1, keep=False, fault=None)  # type: ignore[union-attr]

    @precondition(can("write_the_same_again"))
    @rule(pick=picks)
    def write_the_same_again(self, pick: int) -> None:
        self.act("write_the_same_again", name=self.live[pick % len(self.live)])

    @precondition(can("delete"))
    @rule(pick=picks)
    def delete(self, pick: int) -> None:
        self.act("delete", name=self.live[pick % len(self.live)])

    @precondition(can("describe"))
    @rule(pick=picks, owner=st.sampled_from(OWNERS), note=st.sampled_from("xy"))
    def describe(self, pick: int, **arguments: Any) -> None:
        self.act("describe", name=self.live[pick % len(self.live)], **arguments)

    @precondition(can("deliver"))
    @rule(pick=picks, keep=seldom, fault=faults(8))
    def deliver(self, **arguments: Any) -> None:
        self.act("deliver", **arguments)

    @precondition(lambda machine: len(machine.sequence.notifications) > 2)
    @rule(pick=picks)
    def lose(self, pick: int) -> None:
        self.act("lose", pick=pick)

    @precondition(can("ring"))
    @rule(pick=picks, keep=seldom, fault=faults(24))
    def ring(self, **arguments: Any) -> None:
        self.act("ring", **arguments)

    @precondition(lambda machine: machine.sequence.bells and len(machine.sequence.standing) < 3)
    @rule(pick=picks, fault=st.tuples(st.just(Fault.STANDS_STILL), st.integers(2, 20)))
    def ring_and_stand_still(self, **arguments: Any) -> None:
        self.act("ring", keep=True, **arguments)

    @precondition(can("recover"))
    @rule(fault=faults(30))
    def recover(self, **arguments: Any) -> None:
        self.act("recover", **arguments)

    @precondition(can("work_off"))
    @rule()
    def work_off(self) -> None:
        self.act("work_off")

    @precondition(can("go_on"))
    @rule(pick=picks, dies=seldom)
    def go_on(self, **arguments: Any) -> None:
        self.act("go_on", **arguments)

    @precondition(can("overtake"))
    @rule(by=st.sampled_from(OVERTAKING), at=st.integers(2, 16))
    def overtake(self, **arguments: Any) -> None:
        self.act("overtake", **arguments)

    @precondition(lambda machine: machine.sequence.bells and not machine.road.embedder.errors)
    @rule(pick=picks)
    def break_the_model(self, pick: int) -> None:
        self.act("break_the_model", pick=pick)

    @precondition(can("wait"))
    @rule(seconds=st.sampled_from((10.0, 65.0, 400.0, 4000.0)))
    def wait(self, seconds: float) -> None:
        self.act("wait", seconds=seconds)

    @precondition(can("decide_by_hand"))
    @rule(pick=picks, retry=st.booleans())
    def decide_by_hand(self, **arguments: Any) -> None:
        self.act("decide_by_hand", **arguments)


def explore(road: Road, run: Run, *, examples: int, steps: int, by_chance: bool = False) -> Counter[str]:
    """Let hypothesis run so many sequences of so many steps, the same ones each time unless `by_chance`.

    Returns what the steps came to. Raises what a sequence raised, once that sequence is as short as can be.
    """
    seen: Counter[str] = Counter()
    machine = type("Explored", (Sequences,), {"road": road, "run": staticmethod(run), "seen": seen})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=not by_chance,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return seen
