"""Going back: seek, snapshots, retention, and the end of a subscription's bond with its topic."""

from datetime import UTC, datetime, timedelta

import pytest
from google.api_core.exceptions import AlreadyExists, FailedPrecondition, NotFound
from google.protobuf.field_mask_pb2 import FieldMask

from tests.contracts.pubsub_desk import Desk, Feature, OnADesk, texts

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
FAR_AHEAD = datetime(2100, 1, 1, tzinfo=UTC)


class HistoryContract(OnADesk):
    """What an operator relies on before and after a mistake."""

    async def seek(self, desk: Desk, **target: object) -> None:
        """Seek the test's subscription."""
        await desk.subscriber.seek(request={"subscription": desk.subscription, **target})

    async def snapshot(self, desk: Desk) -> str:
        """Take a snapshot of the test's subscription."""
        name = desk.name("snapshots")
        await desk.subscriber.create_snapshot(name=name, subscription=desk.subscription)
        return name

    async def test_a_seek_ahead_purges(self, desk: Desk) -> None:
        """Everything published before the time is settled, also what somebody holds."""
        await desk.setup()
        await desk.publish("held", "waiting")
        held = await desk.pull(1)
        await self.seek(desk, time=FAR_AHEAD)
        await desk.nack(held)
        assert await desk.poll() == []

    async def test_a_seek_back_returns_what_was_retained(self, desk: Desk) -> None:
        """With retained acknowledged messages, a seek to a time before them makes them unread."""
        await desk.setup(retain_acked_messages=True)
        await desk.publish("one", "two")
        await desk.ack(await desk.pull(2))
        assert await desk.poll() == []
        await self.seek(desk, time=LONG_AGO)
        assert sorted(texts(await desk.pull(2))) == ["one", "two"]

    async def test_a_topic_that_retains_serves_every_subscription(self, desk: Desk) -> None:
        """A topic's own retention brings back what a subscription has acknowledged and not kept."""
        await desk.publisher.create_topic(
            request={"name": desk.topic, "message_retention_duration": timedelta(minutes=10)}
        )
        await desk.subscriber.create_subscription(name=desk.subscription, topic=desk.topic)
        await desk.publish("one")
        await desk.ack(await desk.pull(1))
        await self.seek(desk, time=LONG_AGO)
        assert texts(await desk.pull(1)) == ["one"]

    async def test_a_snapshot_brings_back_what_was_unread_and_what_came_since(self, desk: Desk) -> None:
        """Acknowledged before the snapshot stays settled; acknowledged after it, or published after it, is unread."""
        await desk.setup()
        await desk.publish("before")
        await desk.ack(await desk.pull(1))
        await desk.publish("unread")
        name = await self.snapshot(desk)
        await desk.publish("since")
        await desk.ack(await desk.pull(2))
        assert await desk.poll() == []
        await self.seek(desk, snapshot=name)
        assert sorted(texts(await desk.pull(2))) == ["since", "unread"]
        assert await desk.poll() == []

    async def test_a_snapshot_serves_more_than_once_and_its_siblings(self, desk: Desk) -> None:
        """It is not used up, and another subscription of the topic can go back to it."""
        self.needs(desk, Feature.SHARED_SNAPSHOTS)
        await desk.setup()
        await desk.publish("letter")
        name = await self.snapshot(desk)
        sibling = desk.name("subscriptions")
        await desk.subscriber.create_subscription(name=sibling, topic=desk.topic)
        for _ in range(2):
            await desk.ack(await desk.pull(1))
            await self.seek(desk, snapshot=name)
        assert texts(await desk.pull(1)) == ["letter"]
        await desk.subscriber.seek(request={"subscription": sibling, "snapshot": name})
        assert texts(await desk.pull(1, sibling)) == ["letter"]

    async def test_snapshots_are_listed_and_deleted(self, desk: Desk) -> None:
        """Names are unique, lists show them, and what was deleted is not found."""
        await desk.setup()
        name = await self.snapshot(desk)
        with pytest.raises(AlreadyExists):
            await desk.subscriber.create_snapshot(name=name, subscription=desk.subscription)
        project = f"projects/{desk.target.project}"
        listed = {item.name: item async for item in await desk.subscriber.list_snapshots(project=project)}
        assert listed[name].topic == desk.topic
        assert listed[name].expire_time > datetime(2026, 1, 1, tzinfo=UTC)
        await desk.subscriber.delete_snapshot(snapshot=name)
        with pytest.raises(NotFound):
            await self.seek(desk, snapshot=name)
        with pytest.raises(NotFound):
            await desk.subscriber.delete_snapshot(snapshot=name)

    async def test_a_snapshot_lives_for_a_week(self, desk: Desk) -> None:
        """It ends by itself, a week after its oldest message was published."""
        self.needs(desk, Feature.CLOCK)
        await desk.setup()
        await desk.publish("letter")
        await desk.target.advance(timedelta(days=1).total_seconds())
        name = await self.snapshot(desk)
        await desk.target.advance(timedelta(days=5, hours=23, minutes=30).total_seconds())
        await self.seek(desk, snapshot=name)
        with pytest.raises(FailedPrecondition, match="too old"):
            await self.snapshot(desk)
        await desk.target.advance(timedelta(hours=1).total_seconds())
        with pytest.raises(NotFound):
            await self.seek(desk, snapshot=name)

    async def test_policies_can_be_changed_and_taken_away(self, desk: Desk) -> None:
        """Dead letters, back-off and retention follow an update; a field that is named and not given is cleared."""
        await desk.setup()
        policy, _ = await desk.dead_letters()
        await self.update(desk, "dead_letter_policy", dead_letter_policy=policy)
        await self.update(desk, "retry_policy", retry_policy={"minimum_backoff": timedelta(seconds=20)})
        config = await desk.subscriber.get_subscription(subscription=desk.subscription)
        assert config.dead_letter_policy.dead_letter_topic == policy["dead_letter_topic"]
        assert config.retry_policy.minimum_backoff == timedelta(seconds=20)
        self.needs(desk, Feature.CLEARED_POLICIES)
        await self.update(desk, "dead_letter_policy")
        await desk.publish("free")
        (received,) = await desk.pull(1)
        assert received.delivery_attempt == 0

    async def test_a_detached_subscription_gets_nothing_any_more(self, desk: Desk) -> None:
        """Detaching drops its messages and ends its reading; the subscription can still be seen."""
        self.needs(desk, Feature.DETACH)
        await desk.setup()
        await desk.publish("lost")
        await desk.publisher.detach_subscription(request={"subscription": desk.subscription})
        assert (await desk.subscriber.get_subscription(subscription=desk.subscription)).detached
        assert [name async for name in await desk.publisher.list_topic_subscriptions(topic=desk.topic)] == []
        with pytest.raises(FailedPrecondition):
            await desk.pull(1)

    async def update(self, desk: Desk, *paths: str, **fields: object) -> None:
        """Change fields of the test's subscription."""
        await desk.subscriber.update_subscription(
            subscription={"name": desk.subscription, **fields}, update_mask=FieldMask(paths=list(paths))
        )
