"""Taking batches through the real client from the embedded endpoint."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest

from shared.errors import DependencyUnavailable, NotFound
from shared.local.pubsub.endpoint import serve
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.ports.broker import Message
from shared.pubsub import inbox as module
from shared.pubsub.inbox import PubSubInbox
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics

TOPOLOGY = Topology(
    project="proj",
    topics=("headrace-replay",),
    subscriptions=(SubscriptionSpec(name="headrace-replay-recover", topic="headrace-replay"),),
)


@pytest.fixture
async def bench() -> AsyncIterator[tuple[PubSubInbox, PubSubPublisher, str]]:
    """Give an inbox, a publisher to its topic, and where the endpoint is."""
    async with (
        serve(topology=TOPOLOGY) as endpoint,
        Metrics("test") as metrics,
        PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=endpoint.address) as publisher,
        PubSubInbox("replay-recover", project_id="proj", emulator_host=endpoint.address) as inbox,
    ):
        yield inbox, publisher, endpoint.address


async def test_what_is_taken_is_answered(bench: tuple[PubSubInbox, PubSubPublisher, str]) -> None:
    """Acked messages are gone, nacked ones come again, and an empty subscription answers within the wait."""
    inbox, publisher, _ = bench
    assert await inbox.take(limit=10, wait_seconds=0.2) == []
    for number in range(3):
        await publisher.publish(Message(topic="replay", data=b"%d" % number, attributes={"all": "true"}))
    taken = await inbox.take(limit=2, wait_seconds=5)
    assert len(taken) == 2
    assert {one.delivery.subscription for one in taken} == {"replay-recover"}
    assert taken[0].delivery.attributes == {"all": "true"}
    assert taken[0].delivery.published_at is not None
    await inbox.ack(taken[:1])
    await inbox.nack(taken[1:])
    left = [one for _ in range(2) for one in await inbox.take(limit=10, wait_seconds=1)]
    seen = {one.delivery.data for one in (*taken[:1], *left)}
    await inbox.ack(left)
    assert seen == {b"0", b"1", b"2"}
    assert await inbox.take(limit=10, wait_seconds=0.2) == []


async def test_a_missing_subscription_is_said(bench: tuple[PubSubInbox, PubSubPublisher, str]) -> None:
    """What does not exist is our own error, with its name."""
    _, _, address = bench
    async with PubSubInbox("no-such", project_id="proj", emulator_host=address) as inbox:
        with pytest.raises(NotFound, match="headrace-no-such"):
            await inbox.take(limit=1, wait_seconds=1)


async def test_no_connection_is_not_nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that swallows what is sent to it is a failure; what waited there would never be missed otherwise."""
    monkeypatch.setattr(module, "_CONNECT_SECONDS", 0.5)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        async with PubSubInbox("replay-recover", project_id="proj", emulator_host=f"{host}:{port}") as inbox:
            with pytest.raises(DependencyUnavailable):
                await inbox.take(limit=1, wait_seconds=0.2)
