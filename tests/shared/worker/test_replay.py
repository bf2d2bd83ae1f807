"""Where a batch goes from here, and what a handled replay says of its letter."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from shared.model.outcome import DONE, REFUSED, UNAVAILABLE, Outcome
from shared.ports.broker import Delivery
from shared.ports.dead_letters import BatchState, LetterFilter, ReplayBatch, ReplayRequest, Tally
from shared.worker.replay import judge, resolving
from tests.plugins.clock import ManualClock


def batch(state: BatchState, **tally: int) -> ReplayBatch:
    """Return a batch in a state with these counts."""
    return ReplayBatch(
        id=uuid4(), state=state, request=ReplayRequest(filters=LetterFilter(), by="test"), automatic=False,
        reason=None, created_at=ManualClock().now(), ended_at=None, tally=Tally(**tally),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "tally", "after"),
    [
        (BatchState.CANARY, {"sent": 1, "staged": 9}, None),
        (BatchState.CANARY, {"resolved": 1, "staged": 9}, BatchState.RUNNING),
        (BatchState.CANARY, {"failed": 1, "staged": 9}, BatchState.STOPPED),
        (BatchState.CANARY, {"unknown": 1, "staged": 9}, BatchState.STOPPED),
        (BatchState.CANARY, {"superseded": 1, "staged": 9}, None),
        (BatchState.CANARY, {"superseded": 1}, BatchState.DONE),
        (BatchState.RUNNING, {"failed": 4, "staged": 9}, None),
        (BatchState.RUNNING, {"failed": 1, "resolved": 4, "staged": 9}, BatchState.STOPPED),
        (BatchState.RUNNING, {"failed": 1, "resolved": 9, "staged": 9}, None),
        (BatchState.RUNNING, {"failed": 2, "resolved": 17, "staged": 9}, BatchState.STOPPED),
        (BatchState.RUNNING, {"failed": 9, "sent": 1}, None),
        (BatchState.RUNNING, {"failed": 9}, BatchState.DONE),
        (BatchState.RUNNING, {"unknown": 9, "staged": 1}, None),
        (BatchState.REQUESTED, {}, None),
        (BatchState.STOPPED, {"staged": 3}, None),
    ],
)
def test_where_a_batch_goes(state: BatchState, tally: dict[str, int], after: BatchState | None) -> None:
    """The canary decides alone; later more than a tenth of at least five outcomes stops; an end needs all outcomes."""
    move = judge(batch(state, **tally))
    assert (move and move.after) == after


class Letters:
    """Remembers which letters were resolved."""

    def __init__(self) -> None:
        self.resolved: list[UUID] = []

    async def resolve(self, letter_id: UUID) -> bool:
        self.resolved.append(letter_id)
        return True


@pytest.mark.parametrize(("outcome", "resolved"), [(DONE, True), (REFUSED, False), (UNAVAILABLE, False)])
async def test_a_handled_replay_resolves_its_letter(outcome: Outcome, resolved: bool) -> None:
    """Only what was really handled does; deliveries that are no replay name no letter."""
    letters, letter_id = Letters(), uuid4()

    async def handler(_: Delivery) -> Outcome:
        return outcome

    handle = resolving(handler, letters)  # type: ignore[arg-type]
    for said in ({"dead_letter_id": str(letter_id)}, {}, {"dead_letter_id": "nonsense"}):
        message = Delivery(subscription="s", message_id="1", published_at=None, data=b"", attributes=said)
        assert await handle(message) == outcome
    assert letters.resolved == ([letter_id] if resolved else [])
