"""The endpoint as a server: its port, its end, and clients that end badly."""

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
from google.api_core.exceptions import DeadlineExceeded, MethodNotImplemented, ServiceUnavailable
from google.cloud import pubsub_v1
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport, SubscriberGrpcTransport
from google.pubsub_v1.types import PubsubMessage, StreamingPullRequest

from shared.errors import DependencyUnavailable, NotFound
from shared.local.pubsub.endpoint import Endpoint, serve
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.local.pubsub.wire import PubsubMessage as RawMessage
from tests.plugins.clock import ManualClock

TOPIC = "projects/p/topics/work"
SUBSCRIPTION = "projects/p/subscriptions/work"
TOPOLOGY = Topology(project="p", topics=("work",), subscriptions=(SubscriptionSpec(name="work", topic="work"),))

HOLD_ONE_MESSAGE = """
import sys, threading, grpc
from google.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
address, subscription = sys.argv[1:]
client = SubscriberClient(transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(address)))
for_ever = threading.Event()
def requests():
    yield {"subscription": subscription, "stream_ack_deadline_seconds": 60, "max_outstanding_messages": 1}
    for_ever.wait()
for response in client.streaming_pull(requests=requests()):
    print("holding", flush=True)
"""


@pytest.fixture
def clock() -> ManualClock:
    """Give the endpoint a clock that the test moves."""
    return ManualClock()


@pytest.fixture
async def endpoint(clock: ManualClock) -> AsyncIterator[Endpoint]:
    """Serve the topology on a free port."""
    async with serve(clock=clock, topology=TOPOLOGY) as endpoint:
        yield endpoint


def publish(endpoint: Endpoint, *texts: str) -> None:
    """Publish without a client."""
    messages = [RawMessage(data=text.encode()) for text in texts]
    endpoint.broker.publish(TOPIC, messages, 1)


async def test_the_topology_is_there_from_the_first_call(endpoint: Endpoint) -> None:
    """A client that connects first of all finds its topics."""
    async with grpc.aio.insecure_channel(endpoint.address) as channel:
        client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        response = await client.publish(topic=TOPIC, messages=[PubsubMessage(data=b"x")])
    assert len(response.message_ids) == 1


async def test_a_wrong_topology_does_not_start() -> None:
    """A subscription to a topic that is not listed is an error before any port is open."""
    wrong = Topology(project="p", subscriptions=(SubscriptionSpec(name="work", topic="work"),))
    with pytest.raises(NotFound):
        async with serve(topology=wrong):
            pass


async def test_a_port_that_is_taken_is_said_so(endpoint: Endpoint) -> None:
    """The second endpoint on a port fails clearly."""
    with pytest.raises(DependencyUnavailable, match=str(endpoint.port)):
        async with serve(port=endpoint.port):
            pass


@pytest.mark.slow  # the client tries five times at once and then waits ten seconds
async def test_a_subscriber_survives_a_restart_of_the_endpoint() -> None:
    """An endpoint that goes away answers UNAVAILABLE; the client comes back by itself to the next one."""
    arrived: asyncio.Queue[bytes] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def keep(message: pubsub_v1.subscriber.message.Message) -> None:
        message.ack()
        loop.call_soon_threadsafe(arrived.put_nowait, message.data)

    async with asyncio.timeout(30):
        async with serve(topology=TOPOLOGY) as first:
            transport = SubscriberGrpcTransport(channel=grpc.insecure_channel(first.address))
            client = pubsub_v1.SubscriberClient(transport=transport)
            future = client.subscribe(SUBSCRIPTION, keep)
            publish(first, "before")
            assert await arrived.get() == b"before"
        async with serve(port=first.port, topology=TOPOLOGY) as second:
            publish(second, "after")
            assert await arrived.get() == b"after"
            future.cancel()
            await asyncio.to_thread(future.result)
            await asyncio.to_thread(client.close)


async def test_a_waiting_pull_ends_with_the_endpoint() -> None:
    """Nothing that waits for messages keeps the endpoint from ending."""
    async with asyncio.timeout(10):
        async with serve(topology=TOPOLOGY) as endpoint:
            channel = grpc.aio.insecure_channel(endpoint.address)
            client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            pull = asyncio.create_task(client.pull(subscription=SUBSCRIPTION, max_messages=1, retry=None))
            while endpoint.broker.subscription(SUBSCRIPTION).readers == 0:
                await client.get_subscription(subscription=SUBSCRIPTION)
        with pytest.raises(ServiceUnavailable, match="going down"):
            await pull
        await channel.close()


async def test_a_pull_that_was_given_up_takes_no_message(endpoint: Endpoint) -> None:
    """When the caller of a waiting pull has gone, the next message is for somebody else."""
    async with asyncio.timeout(10), grpc.aio.insecure_channel(endpoint.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        with pytest.raises(DeadlineExceeded):
            await client.pull(subscription=SUBSCRIPTION, max_messages=1, timeout=0.2, retry=None)
        while endpoint.broker.subscription(SUBSCRIPTION).readers:
            await client.get_subscription(subscription=SUBSCRIPTION)
        publish(endpoint, "x")
        response = await client.pull(subscription=SUBSCRIPTION, max_messages=1)
        assert len(response.received_messages) == 1


async def test_what_the_endpoint_lacks_is_refused(endpoint: Endpoint) -> None:
    """A subscription with exactly-once delivery is not taken as if it had it."""
    async with grpc.aio.insecure_channel(endpoint.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        name = "projects/p/subscriptions/once"
        request = {"name": name, "topic": TOPIC, "enable_exactly_once_delivery": True}
        with pytest.raises(MethodNotImplemented):
            await client.create_subscription(request=request)


async def test_a_killed_client_frees_its_stream_and_keeps_its_lease(endpoint: Endpoint, clock: ManualClock) -> None:
    """After kill -9 new messages go elsewhere at once; the one it held comes back at its deadline."""
    work = endpoint.broker.subscription(SUBSCRIPTION)
    publish(endpoint, "held")
    async with asyncio.timeout(20), grpc.aio.insecure_channel(endpoint.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        victim = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLD_ONE_MESSAGE, endpoint.address, SUBSCRIPTION, stdout=asyncio.subprocess.PIPE
        )
        assert victim.stdout is not None
        assert await victim.stdout.readline() == b"holding\n"
        victim.kill()
        await victim.wait()
        while work.readers:
            await client.get_subscription(subscription=SUBSCRIPTION)
        publish(endpoint, "new")
        fresh = await client.pull(subscription=SUBSCRIPTION, max_messages=10)
        assert [item.message.data for item in fresh.received_messages] == [b"new"]
        await client.acknowledge(subscription=SUBSCRIPTION, ack_ids=[fresh.received_messages[0].ack_id])
        clock.advance(60)
        again = await client.pull(subscription=SUBSCRIPTION, max_messages=10)
        assert [item.message.data for item in again.received_messages] == [b"held"]


async def test_a_stream_is_told_when_its_subscription_is_deleted(endpoint: Endpoint) -> None:
    """A subscriber of a subscription that goes away ends with NOT_FOUND."""
    channel = grpc.insecure_channel(endpoint.address)
    client = pubsub_v1.SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()
    future = client.subscribe(SUBSCRIPTION, lambda _message: loop.call_soon_threadsafe(seen.set))
    publish(endpoint, "hello")
    async with asyncio.timeout(10):
        await seen.wait()
    endpoint.broker.delete_subscription(SUBSCRIPTION)
    with pytest.raises(Exception, match="deleted") as caught:
        await asyncio.to_thread(future.result, 10)
    assert caught.type.__name__ == "NotFound"
    await asyncio.to_thread(client.close)


async def test_a_stream_can_settle_by_itself(endpoint: Endpoint) -> None:
    """Acks, nacks and deadlines sent on the stream count like those of the unary calls."""
    async with asyncio.timeout(10), grpc.aio.insecure_channel(endpoint.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        outgoing: asyncio.Queue[StreamingPullRequest | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[StreamingPullRequest]:
            while (request := await outgoing.get()) is not None:
                yield request

        outgoing.put_nowait(StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10))
        stream = await client.streaming_pull(requests=requests())
        publish(endpoint, "a")
        responses = aiter(stream)
        first = (await anext(responses)).received_messages[0]
        outgoing.put_nowait(StreamingPullRequest(modify_deadline_ack_ids=[first.ack_id], modify_deadline_seconds=[0]))
        second = (await anext(responses)).received_messages[0]
        assert second.message.message_id == first.message.message_id
        assert second.ack_id != first.ack_id
        outgoing.put_nowait(StreamingPullRequest(ack_ids=[second.ack_id]))
        outgoing.put_nowait(None)
        assert [response async for response in responses] == []
    assert endpoint.broker.subscription(SUBSCRIPTION).backlog == 0


async def test_a_stream_without_quota_gets_everything(endpoint: Endpoint) -> None:
    """A backlog larger than what is prepared at once arrives whole, without a single ack."""
    publish(endpoint, *["x"] * 1000)
    publish(endpoint, *["y"] * 1000)

    async def requests() -> AsyncIterator[StreamingPullRequest]:
        yield StreamingPullRequest(subscription=SUBSCRIPTION, stream_ack_deadline_seconds=10)
        await asyncio.Event().wait()

    count = 0
    async with asyncio.timeout(10), grpc.aio.insecure_channel(endpoint.address) as channel:
        client = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        stream = await client.streaming_pull(requests=requests())
        async for response in stream:
            count += len(response.received_messages)
            if count == 2000:
                break
        stream.cancel()


async def test_large_messages_pass(endpoint: Endpoint) -> None:
    """A message just under 10 MB goes through the port and back."""
    size_bytes = 9_900_000
    async with asyncio.timeout(20):
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(endpoint.address, options=options) as channel:
            publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
            subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
            await publisher.publish(topic=TOPIC, messages=[PubsubMessage(data=b"x" * size_bytes)])
            response = await subscriber.pull(subscription=SUBSCRIPTION, max_messages=1)
    assert len(response.received_messages[0].message.data) == size_bytes
