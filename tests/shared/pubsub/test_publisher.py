"""Publishing through the real client: bounded, ordered, and clear about what failed."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import pytest
from google.cloud.pubsub_v1 import PublisherClient
from google.pubsub_v1 import types

from shared.errors import DependencyUnavailable, InvalidRequest, NotFound, RetryableError
from shared.ports.broker import Message
from shared.pubsub import topics
from shared.pubsub.publisher import PubSubPublisher
from shared.telemetry.metrics import Metrics

REQUEST = types.PublishRequest.pb(types.PublishRequest())
RESPONSE = types.PublishResponse.pb(types.PublishResponse())


@dataclass
class Server:
    """Takes publish calls, notes them, and fails those it is told to."""

    stored: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    failures: list[grpc.StatusCode] = field(default_factory=list)
    calls: int = 0
    hang: asyncio.Event | None = None
    called: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""

    async def publish(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Answer one call."""
        self.calls += 1
        self.called.set()
        if self.hang is not None:
            await self.hang.wait()
        if self.failures:
            await context.abort(self.failures.pop(0), "no")
        ids = [str(len(self.stored) + number) for number in range(len(request.messages))]
        self.stored.extend(request.messages)
        self.paths.append(request.topic)
        return type(RESPONSE)(message_ids=ids)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A gRPC server with the publisher's API and nothing behind it."""
    state = Server()
    handler = grpc.unary_unary_rpc_method_handler(
        state.publish,
        request_deserializer=type(REQUEST).FromString,
        response_serializer=type(RESPONSE).SerializeToString,
    )
    grpc_server = grpc.aio.server()
    grpc_server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler}),)
    )
    state.address = f"127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    await grpc_server.start()
    yield state
    await grpc_server.stop(0)


@pytest.fixture
async def metrics() -> AsyncIterator[Metrics]:
    """Metrics of one service."""
    async with Metrics("test") as metrics:
        yield metrics


@pytest.fixture
async def publisher(server: Server, metrics: Metrics) -> AsyncIterator[PubSubPublisher]:
    """A publisher whose batches are small and whose patience is short."""
    async with PubSubPublisher(
        project_id="proj", metrics=metrics, emulator_host=server.address, deadline_seconds=1.0
    ) as publisher:
        yield publisher


def _message(number: int = 0, key: str = "") -> Message:
    return Message(topic=topics.STAGES, data=b"%d" % number, attributes={"traceparent": "00-x"}, ordering_key=key)


async def test_message_arrives_as_it_was(server: Server, publisher: PubSubPublisher, metrics: Metrics) -> None:
    """Data, attributes, key and the topic's resource path reach the broker, and its id comes back."""
    assert await publisher.publish(_message(5, key="job")) == "0"
    [stored] = server.stored
    assert (stored.data, dict(stored.attributes), stored.ordering_key) == (b"5", {"traceparent": "00-x"}, "job")
    assert server.paths == ["projects/proj/topics/headrace-stages"]
    assert 'headrace_published_total{outcome="stored",topic="stages"} 1.0' in metrics.text()


async def test_one_key_keeps_the_order_of_calls(server: Server, publisher: PubSubPublisher) -> None:
    """However the calls are batched, the messages of a key are stored in the order they were asked for."""
    await asyncio.gather(*(publisher.publish(_message(number, key="job")) for number in range(200)))
    assert [int(stored.data) for stored in server.stored] == list(range(200))


async def test_messages_share_calls(server: Server, publisher: PubSubPublisher) -> None:
    """Messages that are published together travel together."""
    await asyncio.gather(*(publisher.publish(_message(number)) for number in range(100)))
    assert server.calls < 100
    assert len(server.stored) == 100


@pytest.mark.parametrize("key", ["", "job"])
async def test_failure_is_one_call_and_one_error(server: Server, publisher: PubSubPublisher, key: str) -> None:
    """Nothing is tried again behind the caller's back, with ordering or without."""
    server.failures = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(DependencyUnavailable):
        await publisher.publish(_message(key=key))
    assert server.calls == 1


async def test_key_is_usable_after_a_failure(server: Server, publisher: PubSubPublisher) -> None:
    """A failed ordered publish does not block its key: the same message can be sent again, and the next after it."""
    server.failures = [grpc.StatusCode.UNAVAILABLE]
    with pytest.raises(RetryableError):
        await publisher.publish(_message(1, key="job"))
    await publisher.publish(_message(1, key="job"))
    await publisher.publish(_message(2, key="job"))
    assert [stored.data for stored in server.stored] == [b"1", b"2"]


async def test_messages_behind_a_failed_one_fail_with_it(server: Server, publisher: PubSubPublisher) -> None:
    """What was called for while an earlier message of the key failed is not stored out of order."""
    server.failures = [grpc.StatusCode.UNAVAILABLE]
    results = await asyncio.gather(
        *(publisher.publish(_message(number, key="job")) for number in range(20)), return_exceptions=True
    )
    assert all(isinstance(result, RetryableError) for result in results)
    assert server.stored == []
    await asyncio.gather(*(publisher.publish(_message(number, key="job")) for number in range(20)))
    assert [int(stored.data) for stored in server.stored] == list(range(20))


async def test_a_message_that_waits_behind_a_call_under_way_fails_with_it(
    server: Server, publisher: PubSubPublisher
) -> None:
    """The library cancels such a message with a plain RuntimeError; to callers it is a failure that may pass."""
    server.hang = asyncio.Event()
    server.failures = [grpc.StatusCode.UNAVAILABLE]
    first = asyncio.create_task(publisher.publish(_message(1, key="job")))
    await server.called.wait()
    second = asyncio.create_task(publisher.publish(_message(2, key="job")))
    server.hang.set()  # whoever waits for this comes after the task above, whose message has a batch of its own
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, RetryableError) for result in results), results
    assert server.stored == []
    await publisher.publish(_message(1, key="job"))
    assert [stored.data for stored in server.stored] == [b"1"]


async def test_silent_broker_costs_the_deadline(server: Server, metrics: Metrics) -> None:
    """A broker that takes the call and says nothing ends in an error, and the key is usable again."""
    server.hang = asyncio.Event()
    async with PubSubPublisher(
        project_id="proj", metrics=metrics, emulator_host=server.address, deadline_seconds=0.2
    ) as publisher:
        with pytest.raises(DependencyUnavailable):
            await publisher.publish(_message(1, key="job"))
        server.hang.set()
        server.stored.clear()
        await publisher.publish(_message(2, key="job"))
    assert b"2" in [stored.data for stored in server.stored]


class Hanging:
    """Stands in for the library's client when its batches end neither well nor badly."""

    def __init__(self) -> None:
        self.transport, self.ended = self, 0

    def publish(self, *_: object, **__: object) -> Future[str]:
        """Take a message, and never say what became of it."""
        return Future()

    def stop(self) -> None:
        """Count the stops."""
        self.ended += 1

    def close(self) -> None:
        """Count the ends of the transport with the stops."""
        self.ended += 1


class Reopening(PubSubPublisher):
    """Its first client hangs, and it counts the clients that it opened."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.opened, self.hanging = 0, Hanging()

    def _open(self) -> PublisherClient:
        self.opened += 1
        return super()._open() if self.opened > 1 else cast("PublisherClient", self.hanging)


async def test_a_client_that_hangs_is_replaced_once(
    server: Server, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many messages wait for it, one other is opened for all of them, and the first is closed."""
    monkeypatch.setattr("shared.pubsub.publisher._GRACE_SECONDS", 0.0)
    async with Reopening(
        project_id="proj", metrics=metrics, emulator_host=server.address, deadline_seconds=0.1
    ) as publisher:
        results = await asyncio.gather(*(publisher.publish(_message()) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(result, DependencyUnavailable) for result in results), results
        assert (publisher.opened, publisher.hanging.ended) == (2, 2)


async def test_missing_topic_is_not_retryable(server: Server, publisher: PubSubPublisher) -> None:
    """A topic that does not exist is a fault in the set-up."""
    server.failures = [grpc.StatusCode.NOT_FOUND]
    with pytest.raises(NotFound):
        await publisher.publish(_message())


async def test_too_large_is_refused_here(server: Server, publisher: PubSubPublisher) -> None:
    """A message that no broker takes is refused without a call, and its key stays usable."""
    with pytest.raises(InvalidRequest) as caught:
        await publisher.publish(Message(topic=topics.STAGES, data=b"x" * 11_000_000, ordering_key="job"))
    assert caught.value.code == "MESSAGE_TOO_LARGE"
    await publisher.publish(_message(key="job"))
    assert server.calls == 1


@pytest.mark.parametrize("name", ["self", "topic", "data", "ordering_key", "retry", "timeout"])
async def test_reserved_attribute_is_refused(publisher: PubSubPublisher, name: str) -> None:
    """An attribute that the client library would take for a parameter of its own is refused, not misunderstood."""
    with pytest.raises(InvalidRequest, match=name):
        await publisher.publish(Message(topic=topics.STAGES, data=b"x", attributes={name: "1"}))


async def test_address_is_explicit(server: Server, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own environment variable does not decide where messages go."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:9")
    async with PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=server.address) as publisher:
        await publisher.publish(_message())
    assert len(server.stored) == 1
