"""What a Pub/Sub has to do, seen through the published client; run on every implementation.

A subclass gives the fixture `target`. Features name what implementations may lack; a test of a feature that the target
does not declare is skipped, with the feature as the reason.
"""

import asyncio

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.protobuf.field_mask_pb2 import FieldMask

from tests.contracts.pubsub_desk import PATIENCE_SECONDS, Desk, Feature, OnADesk, next_text, texts


class PubSubContract(OnADesk):
    """The core: topics, subscriptions, deliveries, dead letters and order."""

    async def test_a_published_message_arrives_whole(self, desk: Desk) -> None:
        """Data, attributes, id and ordering key arrive as they were published."""
        await desk.setup(enable_message_ordering=True)
        (message_id,) = await desk.publish("hello", key="k", colour="red")
        (received,) = await desk.pull(1)
        assert received.message.data == b"hello"
        assert dict(received.message.attributes) == {"colour": "red"}
        assert received.message.ordering_key == "k"
        assert received.message.message_id == message_id
        assert received.delivery_attempt == 0

    async def test_every_subscription_gets_every_message(self, desk: Desk) -> None:
        """Subscriptions of one topic are independent, and get only what is published after they were made."""
        await desk.publisher.create_topic(name=desk.topic)
        await desk.publish("before")
        first, second = desk.name("subscriptions"), desk.name("subscriptions")
        for name in (first, second):
            await desk.subscriber.create_subscription(name=name, topic=desk.topic)
        await desk.publish("after")
        assert texts(await desk.pull(1, first)) == ["after"]
        assert texts(await desk.pull(1, second)) == ["after"]

    async def test_an_acknowledged_message_does_not_come_back(self, desk: Desk) -> None:
        """What is acknowledged is gone, what is nacked returns."""
        await desk.setup()
        await desk.publish("done", "again")
        received = await desk.pull(2)
        await desk.ack(m for m in received if m.message.data == b"done")
        await desk.nack(m for m in received if m.message.data == b"again")
        assert texts(await desk.pull(1)) == ["again"]
        assert await desk.poll() == []

    async def test_a_stream_delivers_what_is_there_and_what_comes(self, desk: Desk) -> None:
        """A streaming pull gets the backlog and then new messages."""
        await desk.setup()
        await desk.publish("old")
        async with desk.stream() as arrived:
            assert await next_text(arrived) == "old"
            await desk.publish("new")
            assert await next_text(arrived) == "new"

    async def test_a_stream_redelivers_a_nack(self, desk: Desk) -> None:
        """A nack of the high-level client brings the message back to the stream."""
        await desk.setup()
        async with desk.stream() as arrived:
            await desk.publish("again")
            async with asyncio.timeout(PATIENCE_SECONDS):
                (await arrived.get()).nack()
            assert await next_text(arrived) == "again"

    async def test_a_cancelled_stream_gets_nothing_any_more(self, desk: Desk) -> None:
        """After one subscriber has ended the next one gets what is published, without delay."""
        await desk.setup()
        self.needs(desk, Feature.ENDED_STREAMS)
        async with desk.stream() as arrived:
            await desk.publish("first")
            assert await next_text(arrived) == "first"
        sent = [f"{number}" for number in range(20)]
        await desk.publish(*sent)
        async with desk.stream() as arrived:
            assert sorted([await next_text(arrived) for _ in sent]) == sorted(sent)

    async def test_streams_share_the_work(self, desk: Desk) -> None:
        """A stream holds no more than its quota; the rest goes to another one at once."""
        await desk.setup()
        self.needs(desk, Feature.FLOW_CONTROL)
        async with desk.stream(max_messages=5) as first, desk.stream(max_messages=5) as second:
            await desk.publish(*(f"{number}" for number in range(10)))
            async with asyncio.timeout(PATIENCE_SECONDS):
                held = [await queue.get() for queue in (first, second) for _ in range(5)]
            assert len({message.message_id for message in held}) == 10
            for message in held:
                message.ack()

    async def test_the_last_attempt_goes_to_the_dead_letter_topic(self, desk: Desk) -> None:
        """Attempts are counted from one; after the fifth the message is forwarded with where it came from."""
        policy, letters = await desk.dead_letters()
        await desk.setup(dead_letter_policy=policy)
        await desk.publish("bad", colour="red")
        for attempt in range(1, 6):
            (received,) = await desk.pull(1)
            assert received.delivery_attempt == attempt
            await desk.nack([received])
        assert await desk.poll() == []  # some forward only when they are asked for the next delivery
        (letter,) = await desk.pull(1, letters)
        attributes = dict(letter.message.attributes)
        assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime")
        assert attributes == {
            "colour": "red",
            "CloudPubSubDeadLetterSourceSubscription": desk.subscription.rsplit("/", 1)[1],
            "CloudPubSubDeadLetterSourceSubscriptionProject": desk.target.project,
            "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        }

    async def test_messages_of_a_key_arrive_in_order(self, desk: Desk) -> None:
        """With ordering, a key's messages come in the order of publishing, batch after batch."""
        await desk.setup(enable_message_ordering=True)
        await desk.publish("1", "2", "3", key="k")
        order: list[str] = []
        while len(order) < 3:
            batch = await desk.pull(1)
            order += texts(batch)
            await desk.ack(batch)
        assert order == ["1", "2", "3"]

    async def test_a_nack_keeps_the_order_of_its_key(self, desk: Desk) -> None:
        """A nack brings back the message and all later ones of its key, in order."""
        await desk.setup(enable_message_ordering=True)
        self.needs(desk, Feature.ORDER_AFTER_NACK)
        await desk.publish("1", "2", "3", key="k")
        await desk.nack((await desk.pull(3))[:1])
        assert texts(await desk.pull(3)) == ["1", "2", "3"]

    async def test_an_ordered_key_goes_on_after_a_dead_letter(self, desk: Desk) -> None:
        """A head that is dead-lettered is forwarded, and those behind it are delivered."""
        self.needs(desk, Feature.ORDERED_DEAD_LETTERS)
        policy, letters = await desk.dead_letters()
        await desk.setup(dead_letter_policy=policy, enable_message_ordering=True)
        await desk.publish("bad", "good", key="k")
        for _ in range(5):
            await desk.nack(await desk.pull(1))
        assert texts(await desk.pull(1, letters)) == ["bad"]
        assert texts(await desk.pull(1)) == ["good"]

    async def test_a_filter_selects(self, desk: Desk) -> None:
        """Only what matches the filter is delivered, and what is no filter is refused."""
        self.needs(desk, Feature.FILTERS)
        await desk.setup(filter='attributes.kind = "a" OR hasPrefix(attributes.kind, "b")')
        for kind in ("a", "bcd", "c"):
            await desk.publish(kind, kind=kind)
        assert sorted(texts(await desk.pull(2))) == ["a", "bcd"]
        assert await desk.poll() == []
        with pytest.raises(InvalidArgument):
            await desk.subscriber.create_subscription(
                request={"name": desk.name("subscriptions"), "topic": desk.topic, "filter": "no filter (("}
            )

    async def test_leases_end_at_their_deadline(self, desk: Desk) -> None:
        """A message that nobody settles comes back at the ack deadline, and a late ack does not remove it."""
        self.needs(desk, Feature.CLOCK, Feature.STALE_ACKS)
        await desk.setup(ack_deadline_seconds=10)
        await desk.publish("slow")
        late = await desk.pull(1)
        await desk.target.advance(9)
        assert await desk.poll() == []
        await desk.target.advance(2)
        again = await desk.pull(1)
        await desk.ack(late)
        await desk.nack(again)
        assert texts(await desk.pull(1)) == ["slow"]

    async def test_redelivery_backs_off(self, desk: Desk) -> None:
        """With a retry policy a nacked message waits, longer each time."""
        self.needs(desk, Feature.CLOCK)
        await desk.setup(retry_policy={"minimum_backoff": {"seconds": 10}, "maximum_backoff": {"seconds": 600}})
        await desk.publish("busy")
        for wait in (10, 20, 40):
            await desk.nack(await desk.pull(1))
            await desk.target.advance(wait - 1)
            assert await desk.poll() == []
            await desk.target.advance(2)
        assert texts(await desk.pull(1)) == ["busy"]

    async def test_what_does_not_exist_is_not_found(self, desk: Desk) -> None:
        """Topics and subscriptions that are missing, or exist already, answer with their own status."""
        with pytest.raises(NotFound):
            await desk.publish("nowhere")
        with pytest.raises(NotFound):
            await desk.subscriber.get_subscription(subscription=desk.subscription)
        with pytest.raises(NotFound):
            await desk.subscriber.create_subscription(name=desk.subscription, topic=desk.topic)
        await desk.setup()
        with pytest.raises(AlreadyExists):
            await desk.publisher.create_topic(name=desk.topic)
        with pytest.raises(AlreadyExists):
            await desk.subscriber.create_subscription(name=desk.subscription, topic=desk.topic)

    async def test_configurations_are_kept_listed_changed_and_deleted(self, desk: Desk) -> None:
        """What was configured can be read back, updated by field, found in lists, and removed."""
        await desk.setup(ack_deadline_seconds=30)
        await desk.subscriber.update_subscription(
            subscription={
                "name": desk.subscription,
                "ack_deadline_seconds": 60,
                "retry_policy": {"minimum_backoff": {"seconds": 1}},
            },
            update_mask=FieldMask(paths=["ack_deadline_seconds"]),
        )
        config = await desk.subscriber.get_subscription(subscription=desk.subscription)
        assert (config.topic, config.ack_deadline_seconds) == (desk.topic, 60)
        assert "retry_policy" not in config
        project = f"projects/{desk.target.project}"
        topics = [topic.name async for topic in await desk.publisher.list_topics(project=project)]
        assert desk.topic in topics
        listed = [item.name async for item in await desk.subscriber.list_subscriptions(project=project)]
        assert desk.subscription in listed
        attached = [name async for name in await desk.publisher.list_topic_subscriptions(topic=desk.topic)]
        assert attached == [desk.subscription]
        await desk.publisher.delete_topic(topic=desk.topic)
        orphan = await desk.subscriber.get_subscription(subscription=desk.subscription)
        assert orphan.topic == "_deleted-topic_"
        await desk.subscriber.delete_subscription(subscription=desk.subscription)
        with pytest.raises(NotFound):
            await desk.pull(1)

    async def test_limits_are_those_of_the_service(self, desk: Desk) -> None:
        """What the service would refuse is refused."""
        self.needs(desk, Feature.LIMITS)
        await desk.setup()
        with pytest.raises(InvalidArgument):
            await desk.publish("x", **{f"key{number}": "" for number in range(101)})
        with pytest.raises(InvalidArgument):
            await desk.publish("x", key="x" * 1025)
        with pytest.raises(InvalidArgument):
            await desk.publish("x", long="v" * 1025)
        with pytest.raises(InvalidArgument):
            await desk.publish(*["x"] * 1001)
        with pytest.raises(InvalidArgument):
            await desk.subscriber.create_subscription(
                request={"name": desk.name("subscriptions"), "topic": desk.topic, "ack_deadline_seconds": 5}
            )
