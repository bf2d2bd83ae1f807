"""The bench of the Pub/Sub suites: an implementation under test, its declared features, and clients of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import uuid4

import grpc
import pytest
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.subscriber.message import Message
from google.cloud.pubsub_v1.types import FlowControl
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport, SubscriberGrpcTransport
from google.pubsub_v1.types import PubsubMessage, ReceivedMessage

PATIENCE_SECONDS = 20.0
"""How long a test waits for something that has to happen."""


class Feature(Enum):
    """What not every implementation does as the service does."""

    FILTERS = auto()
    FLOW_CONTROL = auto()  # a stream gets no more than its max_outstanding_messages
    ENDED_STREAMS = auto()  # a stream that was cancelled gets nothing any more
    ORDER_AFTER_NACK = auto()
    ORDERED_DEAD_LETTERS = auto()
    LIMITS = auto()  # attributes and deadlines beyond the documented limits are refused
    STALE_ACKS = auto()  # the ack of an expired lease removes nothing
    CLOCK = auto()  # the test can move time
    DETACH = auto()
    SHARED_SNAPSHOTS = auto()  # a snapshot serves other subscriptions of the topic, and more than once
    CLEARED_POLICIES = auto()  # a policy that an update takes away has no effect any more
    PUSH_IDENTITY = auto()  # a push request carries a token that can be verified
    PUSH_DETAILS = auto()  # delivery attempt and ordering key in what is pushed
    PUSH_STATUSES = auto()  # 202 settles a message and 203 does not
    PUSH_DEADLINE = auto()  # a slow handler's message is taken as failed at the ack deadline


async def _no_clock(_seconds: float) -> None:
    raise AssertionError("this target declares no clock")


@dataclass(frozen=True)
class Target:
    """An implementation under test."""

    address: str
    project: str = "contract"
    features: frozenset[Feature] = frozenset(Feature)
    advance: Callable[[float], Awaitable[None]] = field(default=_no_clock)


class Desk:
    """The clients of one test, with topics and subscriptions of its own."""

    def __init__(self, target: Target, publisher: PublisherAsyncClient, subscriber: SubscriberAsyncClient) -> None:
        self.target = target
        self.publisher = publisher
        self.subscriber = subscriber
        self.topic = self.name("topics")
        self.subscription = self.name("subscriptions")

    def name(self, kind: str) -> str:
        """Return a full name that nobody else uses."""
        return f"projects/{self.target.project}/{kind}/t-{uuid4().hex}"

    async def setup(self, **config: Any) -> None:
        """Create the topic and the subscription."""
        await self.publisher.create_topic(name=self.topic)
        await self.subscriber.create_subscription(request={"name": self.subscription, "topic": self.topic, **config})

    async def dead_letters(self) -> tuple[dict[str, Any], str]:
        """Create a dead-letter topic with a subscription; return the policy and the subscription's name."""
        topic, subscription = self.name("topics"), self.name("subscriptions")
        await self.publisher.create_topic(name=topic)
        await self.subscriber.create_subscription(name=subscription, topic=topic)
        return {"dead_letter_topic": topic, "max_delivery_attempts": 5}, subscription

    async def publish(self, *texts: str, key: str = "", **attributes: str) -> list[str]:
        """Publish texts in one request and return their ids."""
        messages = [PubsubMessage(data=text.encode(), ordering_key=key, attributes=attributes) for text in texts]
        return list((await self.publisher.publish(topic=self.topic, messages=messages)).message_ids)

    async def pull(self, count: int, subscription: str = "") -> list[ReceivedMessage]:
        """Pull until `count` messages were received."""
        received: list[ReceivedMessage] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(received) < count:
                response = await self.subscriber.pull(
                    subscription=subscription or self.subscription, max_messages=count - len(received)
                )
                received += response.received_messages
        return received

    async def poll(self) -> list[ReceivedMessage]:
        """Return what is available without waiting."""
        request = {"subscription": self.subscription, "max_messages": 100, "return_immediately": True}
        with pytest.warns(DeprecationWarning, match="return_immediately"):
            return list((await self.subscriber.pull(request=request)).received_messages)

    async def ack(self, received: Iterable[ReceivedMessage]) -> None:
        """Acknowledge messages."""
        await self.subscriber.acknowledge(
            subscription=self.subscription, ack_ids=[message.ack_id for message in received]
        )

    async def nack(self, received: Iterable[ReceivedMessage]) -> None:
        """Give messages back."""
        await self.subscriber.modify_ack_deadline(
            subscription=self.subscription,
            ack_ids=[message.ack_id for message in received],
            ack_deadline_seconds=0,
        )

    @asynccontextmanager
    async def stream(self, *, max_messages: int = 100) -> AsyncIterator[asyncio.Queue[Message]]:
        """Subscribe with the high-level client; what arrives is in the queue, unsettled."""
        arrived: asyncio.Queue[Message] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        transport = SubscriberGrpcTransport(channel=grpc.insecure_channel(self.target.address))
        with pubsub_v1.SubscriberClient(transport=transport) as client:
            future = client.subscribe(
                self.subscription,
                lambda message: loop.call_soon_threadsafe(arrived.put_nowait, message),
                flow_control=FlowControl(max_messages=max_messages),
            )
            try:
                yield arrived
            finally:
                future.cancel()
                await asyncio.to_thread(future.result)


def texts(received: Iterable[ReceivedMessage]) -> list[str]:
    """Return the data of messages."""
    return [message.message.data.decode() for message in received]


async def next_text(arrived: asyncio.Queue[Message]) -> str:
    """Acknowledge the next message of a stream and return its data."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        message = await arrived.get()
    message.ack()
    return str(message.data.decode())


class OnADesk:
    """What the suites share; a subclass has a fixture `target` that returns a `Target`."""

    @pytest.fixture
    async def desk(self, target: Target) -> AsyncIterator[Desk]:
        """Connect the bare clients to the target."""
        async with AsyncExitStack() as stack:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target.address))
            yield Desk(
                target,
                PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel)),
                SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel)),
            )

    @staticmethod
    def needs(desk: Desk, *features: Feature) -> None:
        """Skip the test if the target lacks a feature."""
        for feature in features:
            if feature not in desk.target.features:
                pytest.skip(f"the target declares that it lacks {feature.name}")
