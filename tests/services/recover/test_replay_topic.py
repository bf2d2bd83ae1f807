"""Replays asked for with a message: JSON or attributes, strictly, and the same message once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest

from services.recover.budget import Budget
from services.recover.replay_topic import ReplayMessages, read, replay_topic
from shared.errors import DependencyUnavailable, InvalidRequest
from shared.model.outcome import Outcome
from shared.ports.broker import Delivery
from shared.ports.dead_letters import BatchState, LetterFilter, ReplayRequest
from tests.component.test_dead_letters import Box, Desk
from tests.plugins.clock import ManualClock
from tests.plugins.road import Road, delivery

ODD = ReplayRequest(filters=LetterFilter(since=datetime.fromisoformat("0001-01-01T00:00:00+14:00")), by="test")
ONE = "01a20384-5ee4-7671-92f0-846e8bbfd886"


def message(data: bytes = b"", **attributes: str) -> Delivery:
    """Make a message of the replay topic."""
    made = delivery("replay-recover", data, attributes)
    return replace(made, message_id=uuid4().hex, published_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("data", "attributes"),
    [
        (b'{"all": true, "canary": true, "limit": 5}', {}),
        (b"", {"all": "true", "canary": "true", "limit": "5", "traceparent": "00-a-b-01"}),
    ],
)
def test_both_forms_say_the_same(data: bytes, attributes: dict[str, str]) -> None:
    """A body as JSON, or attributes as gcloud gives them."""
    order = read(message(data, **attributes))
    assert (order.all, order.canary, order.limit, order.force, order.dry_run) == (True, True, 5, False, False)


def test_ids_and_filters_are_read() -> None:
    """Several ids with commas; filters by name; times need a zone."""
    assert [str(one) for one in read(message(id=f"{ONE},{ONE}")).ids or ()] == [ONE, ONE]
    assert [str(one) for one in read(message(f'{{"ids": ["{ONE}"]}}'.encode())).ids or ()] == [ONE]
    assert read(message(code="MALFORMED_EVENT", stage="")).request("x").filters.stage == ""
    request = read(message(code="CORRUPT", stage="embedding", since="2026-01-01T00:00:00Z", rate="0.5")).request("x")
    assert (request.filters.code, request.filters.stage, request.rate_per_second) == ("CORRUPT", "embedding", 0.5)
    assert request.filters.since == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("data", "attributes"),
    [
        (b"", {}), (b"all", {}), (b"\xff", {}), (b"{}", {}), (b'{"all": false}', {}), (b'{"filter": {}}', {}),
        (b'{"all": true, "ids": ["' + ONE.encode() + b'"]}', {}), (b'{"ids": []}', {}), (b'{"ids": ["x"]}', {}),
        (b'{"all": true, "surprise": 1}', {}), (b'{"filter": {"surprise": 1}}', {}), (b"[]", {}), (b"1", {}),
        (b'{"all": true, "rate": 0}', {}), (b'{"all": true, "rate": NaN}', {}), (b'{"all": true}', {"all": "true"}),
        (b"", {"all": "perhaps"}), (b"", {"id": ""}), (b"", {"code": "a\0b"}), (b"", {"since": "2026-01-01"}),
        (b"", {"limit": "-1", "all": "true"}), (b"[" * 100_000, {}),
        (b"", {"rate": "1e-300", "all": "true"}), (b"", {"rate": "1001", "all": "true"}),
    ],
)  # fmt: skip
def test_anything_else_is_refused(data: bytes, attributes: dict[str, str]) -> None:
    """Nothing is understood by accident, whatever the bytes."""
    with pytest.raises(InvalidRequest) as refused:
        read(message(data, **attributes))
    assert refused.value.code == "MALFORMED_REPLAY"


def test_a_refusal_names_the_bound_of_the_rate() -> None:
    """Who asks for less than a letter in a thousand seconds is told the least there is; that itself is accepted."""
    with pytest.raises(InvalidRequest, match=r"rate: Input should be greater than or equal to 0\.001"):
        read(message(rate="0.0009", all="true"))
    assert read(message(rate="0.001", all="true")).rate == 0.001


async def test_an_order_that_fails_keeps_no_other_back(road: Road) -> None:
    """It goes back and its error is the run's; the orders before and behind it are written down and acked."""
    desk = Desk(road)
    bad = message(b'{"all": true}')
    handle = ReplayMessages(desk.replays, road.dead_letters)

    async def moody(order: Delivery) -> Outcome:
        if order.message_id == bad.message_id:
            raise ValueError("bad")
        return await handle(order)

    for size in (1, 2, 50):
        orders = [message(b'{"all": true}') for _ in range(3)]
        box = Box([orders[0], bad, *orders[1:]])
        with pytest.raises(ValueError, match="bad"):
            await replay_topic(box, moody, desk.budget(), batch_size=size)  # type: ignore[arg-type]
        assert box.nacked == [bad.message_id]
        assert box.acked == [order.message_id for order in orders][: 1 if size == 1 else 3]


async def test_after_a_failure_orders_are_begun_only_while_there_is_time() -> None:
    """When each fails after a wait of its own, the run ends with its budget; what was not begun goes back as well."""
    clock = ManualClock()

    async def slow(_: Delivery) -> Outcome:
        clock.advance(60)
        raise DependencyUnavailable("away")

    orders = [message(b'{"all": true}') for _ in range(9)]
    box = Box(orders)
    with pytest.raises(DependencyUnavailable):
        await replay_topic(box, slow, Budget(clock, 100), batch_size=50)  # type: ignore[arg-type]
    assert clock.monotonic() == 120
    assert (box.acked, box.nacked) == ([], [order.message_id for order in orders])


async def test_messages_of_the_topic_replay_letters_once(road: Road) -> None:
    """A redelivered message is the same request; a dry run does nothing; what cannot be read is kept and acked."""
    desk = Desk(road)
    await desk.fail("a.txt", "b.txt")
    handle = ReplayMessages(desk.replays, road.dead_letters)
    order = message(b'{"filter": {"code": "CORRUPT"}, "limit": 1}')
    box = Box([message(dry_run="true", all="true"), order, message(b"nonsense"), order])
    counts = await replay_topic(box, handle, desk.budget(), batch_size=2)
    assert counts == {"done": 3, "refused": 1}
    assert (len(box.acked), box.nacked) == (4, [])
    assert await road.value("select count(*) from replay_batches") == 1
    assert sorted(await desk.states()) == ["open", "open", "replaying"]
    assert await road.value("select code from dead_letters where origin = 'message'") == "MALFORMED_REPLAY"
    await road.work_off()
    await replay_topic(Box([order]), handle, desk.budget(), batch_size=2)
    assert await road.work_off() == 0


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_an_order_with_a_time_that_no_letter_has_is_refused(road: Road, since: str) -> None:
    """Written down, it would be a batch that no run can carry out; so it is a letter, and no batch."""
    desk = Desk(road)
    handle = ReplayMessages(desk.replays, road.dead_letters)
    box = Box([message(f'{{"filter": {{"since": "{since}"}}}}'.encode()), message(since=since)])
    assert await replay_topic(box, handle, desk.budget(), batch_size=2) == {"done": 0, "refused": 2}
    assert await road.value("select count(*) from replay_batches") == 0
    assert {row["code"] for row in await road.fetch("select code from dead_letters")} == {"MALFORMED_REPLAY"}


async def test_a_batch_with_such_a_time_keeps_no_other_back_and_can_be_stopped(road: Road) -> None:
    """One that was written down before times were bounded fails alone, until somebody stops it."""
    desk = Desk(road)
    await desk.fail("a.txt")
    odd = await desk.replays.batch((await desk.store.request(ODD)).id)
    assert odd is not None
    other = await desk.store.request(ReplayRequest(filters=LetterFilter(), by="test"))
    with pytest.raises(asyncpg.DataError):
        await desk.replays.advance(patience_seconds=0)
    assert (await desk.look(other)).tally.sent == 1
    assert (await desk.replays.stop(odd.id, by="rosa")).state is BatchState.STOPPED
    await desk.replays.advance(patience_seconds=0)
