"""Pulling through the real client from the embedded endpoint: nothing is lost at a stop, nothing exceeds its bounds."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import ServiceUnavailable
from google.api_core.retry import Retry, if_exception_type

from shared.clock import SystemClock
from shared.errors import RetryableError
from shared.local.process import free_port
from shared.local.pubsub.endpoint import Endpoint, serve
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.model.outcome import DONE, UNAVAILABLE, Outcome
from shared.ports.broker import Delivery, Handler, Message
from shared.pubsub.channel import stand_in_channel
from shared.pubsub.publisher import PubSubPublisher
from shared.pubsub.puller import Puller
from shared.pubsub.subscriber import open_subscriber
from shared.telemetry.metrics import Metrics

PATIENCE_SECONDS = 20.0
TOPOLOGY = Topology(
    project="proj",
    topics=("headrace-work",),
    subscriptions=(
        SubscriptionSpec(name="headrace-work-bulk", topic="headrace-work", ack_deadline_seconds=600),
        SubscriptionSpec(name="headrace-work-ordered", topic="headrace-work", ack_deadline_seconds=600, ordering=True),
    ),
)


class Seen:
    """What a handler saw, with a way to wait for it."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._changed = asyncio.Condition()

    @property
    def data(self) -> list[int]:
        """The numbers that were published, in the order of their arrival."""
        return [int(delivery.data) for delivery in self.deliveries]

    async def add(self, delivery: Delivery) -> None:
        """Note a delivery."""
        async with self._changed:
            self.deliveries.append(delivery)
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at after each delivery."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(condition)


class Bench:
    """One endpoint, a publisher, and pullers on demand."""

    def __init__(self, endpoint: Endpoint, publisher: PubSubPublisher, metrics: Metrics) -> None:
        self.endpoint, self.publisher, self.metrics = endpoint, publisher, metrics

    async def publish(self, numbers: range, key: str = "") -> None:
        """Publish numbers."""
        await asyncio.gather(
            *(self.publisher.publish(Message(topic="work", data=b"%d" % n, ordering_key=key)) for n in numbers)
        )

    def puller(self, handler: Handler, *, concurrency: int, name: str = "work-bulk", **options: object) -> Puller:
        """Make a puller."""
        return Puller(
            name,
            handler,
            project_id="proj",
            metrics=self.metrics,
            concurrency=concurrency,
            emulator_host=self.endpoint.address,
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fresh endpoint with one topic."""
    async with (
        Metrics("test") as metrics,
        serve(topology=TOPOLOGY) as endpoint,
        PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=endpoint.address) as publisher,
    ):
        yield Bench(endpoint, publisher, metrics)


@asynccontextmanager
async def pulling(*pullers: Puller) -> AsyncIterator[None]:
    """Run pullers; leaving stops and drains them."""
    async with asyncio.TaskGroup() as group:
        for puller in pullers:
            group.create_task(puller.run())
        try:
            yield
        finally:
            for puller in pullers:
                await puller.stop()


async def _take(bench: Bench, count: int) -> Counter[int]:
    """Take what is left in the subscription, until `count` deliveries came."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    async with pulling(bench.puller(handler, concurrency=50)):
        await seen.until(lambda: len(seen.data) >= count)
    return Counter(seen.data)


async def test_delivery_is_complete(bench: Bench) -> None:
    """A handler sees what was published, and when."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    await bench.publisher.publish(Message(topic="work", data=b"1", attributes={"a": "b"}, ordering_key="k"))
    async with pulling(bench.puller(handler, concurrency=1)):
        await seen.until(lambda: bool(seen.data))
    [delivery] = seen.deliveries
    assert (delivery.subscription, delivery.attributes, delivery.ordering_key) == ("work-bulk", {"a": "b"}, "k")
    assert delivery.message_id
    assert delivery.published_at is not None
    assert abs((delivery.published_at - SystemClock().now()).total_seconds()) < 60
    assert delivery.delivery_attempt == 0


async def test_a_message_of_megabytes_is_delivered(bench: Bench) -> None:
    """Pub/Sub takes 10 MB, more than gRPC receives unless it is told to: such a message would come for ever, unseen."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    await bench.publisher.publish(Message(topic="work", data=b"x" * 5_000_000))
    async with pulling(bench.puller(handler, concurrency=1)):
        await seen.until(lambda: bool(seen.deliveries))
    assert len(seen.deliveries[0].data) == 5_000_000


async def test_stop_under_load_loses_no_answer(bench: Bench) -> None:
    """Those running finish and are acked; those waiting are available at once, long before the ack deadline."""
    go, seen = asyncio.Event(), Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        await go.wait()
        return DONE

    await bench.publish(range(100))
    async with asyncio.TaskGroup() as group:
        puller = bench.puller(handler, concurrency=20, prefetch=60)
        group.create_task(puller.run())
        await seen.until(lambda: len(seen.data) == 20)
        await puller.stop()
        go.set()
    assert len(seen.data) == 20
    rest = await _take(bench, 80)
    assert rest == Counter(set(range(100)) - set(seen.data))


async def test_drain_is_bounded(bench: Bench) -> None:
    """A handler that does not end in time is cancelled, and its message is available at once."""
    seen, cancelled = Seen(), asyncio.Event()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return DONE

    await bench.publish(range(1))
    async with asyncio.timeout(PATIENCE_SECONDS), pulling(bench.puller(handler, concurrency=1, drain_seconds=0.05)):
        await seen.until(lambda: bool(seen.data))
    assert cancelled.is_set()
    assert await _take(bench, 1) == Counter([0])


async def test_cancellation_drains_too(bench: Bench) -> None:
    """Cancelling `run` instead of stopping it loses nothing either."""
    go, seen = asyncio.Event(), Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        await go.wait()
        return DONE

    await bench.publish(range(10))
    task = asyncio.create_task(bench.puller(handler, concurrency=5, prefetch=5).run())
    await seen.until(lambda: len(seen.data) == 5)
    task.cancel()
    task.cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _take(bench, 10 - len(seen.data)) + Counter(seen.data) == Counter(range(10))


async def test_nack_and_exception_bring_it_again(bench: Bench) -> None:
    """A nack comes back, and so does what a broken handler raised on."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        if len(seen.data) == 1:
            return UNAVAILABLE
        if len(seen.data) == 2:
            raise RuntimeError("boom")
        return DONE

    await bench.publish(range(1))
    async with pulling(bench.puller(handler, concurrency=1)):
        await seen.until(lambda: len(seen.data) == 3)
    assert seen.data == [0, 0, 0]


async def test_concurrency_is_a_bound(bench: Bench) -> None:
    """No more deliveries are handled at once than allowed, and all of them are in the end."""
    seen, running, most = Seen(), 0, 0

    async def handler(delivery: Delivery) -> Outcome:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        await seen.add(delivery)
        return DONE

    await bench.publish(range(200))
    async with pulling(bench.puller(handler, concurrency=3, prefetch=50)):
        await seen.until(lambda: len(seen.data) == 200)
    assert most <= 3
    assert sorted(seen.data) == list(range(200))


async def test_shared_slots_keep_one_for_the_other_lane(bench: Bench) -> None:
    """Two pullers share three slots; the one that may take two leaves the third, whatever its backlog."""
    slots, go = asyncio.Semaphore(3), asyncio.Event()
    bulk, interactive = Seen(), Seen()

    async def slow(delivery: Delivery) -> Outcome:
        await bulk.add(delivery)
        await go.wait()
        return DONE

    async def fast(delivery: Delivery) -> Outcome:
        await interactive.add(delivery)
        return DONE

    await bench.publish(range(10))
    async with pulling(bench.puller(slow, concurrency=2, slots=slots)):
        await bulk.until(lambda: len(bulk.data) == 2)
        async with pulling(bench.puller(fast, concurrency=3, name="work-ordered", slots=slots)):
            await interactive.until(lambda: len(interactive.data) == 10)
        assert len(bulk.data) == 2
        go.set()
        await bulk.until(lambda: len(bulk.data) == 10)
    assert not slots.locked()


async def test_waiting_for_a_slot_is_not_work(bench: Bench) -> None:
    """At a stop, a delivery that never got its slot goes back at once instead of using up the drain."""
    slots = asyncio.Semaphore(0)
    asked = asyncio.Event()

    class Slots:
        async def acquire(self) -> object:
            asked.set()
            return await slots.acquire()

        def release(self) -> None:
            raise AssertionError("never acquired")

    async def handler(_delivery: Delivery) -> Outcome:
        raise AssertionError("never handled")

    await bench.publish(range(1))
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with pulling(bench.puller(handler, concurrency=1, slots=Slots(), drain_seconds=PATIENCE_SECONDS * 2)):
            await asked.wait()
    assert await _take(bench, 1) == Counter([0])


async def test_one_key_arrives_in_order(bench: Bench) -> None:
    """On an ordered subscription, a key's messages are handled one after the other, in order."""
    seen, running = Seen(), 0

    async def handler(delivery: Delivery) -> Outcome:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        await seen.add(delivery)
        return DONE

    await bench.publish(range(50), key="job")
    async with pulling(bench.puller(handler, concurrency=10, name="work-ordered")):
        await seen.until(lambda: len(seen.data) == 50)
    assert seen.data == list(range(50))


async def test_missing_subscription_is_waited_for(bench: Bench) -> None:
    """A subscription that is not there yet ends the stream, not the puller."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    late = Topology(project="proj", subscriptions=(SubscriptionSpec(name="headrace-late", topic="headrace-work"),))
    restarted = asyncio.Event()

    class Watched(SystemClock):
        async def sleep(self, seconds: float) -> None:
            restarted.set()
            await super().sleep(seconds)

    async with pulling(bench.puller(handler, concurrency=1, name="late", clock=Watched())):
        async with asyncio.timeout(PATIENCE_SECONDS):
            await restarted.wait()
        late.create(bench.endpoint.broker)
        await bench.publish(range(1))
        await seen.until(lambda: seen.data == [0])
    assert 'code="NOT_FOUND"' in bench.metrics.text()


async def _publish_until_stored(bench: Bench, numbers: range) -> None:
    """Do what the outbox does: connections to the address wait with a backoff that all clients share."""
    while True:
        try:
            return await bench.publish(numbers)
        except RetryableError:
            await SystemClock().sleep(0.1)


async def test_unreachable_broker_does_not_hold_up_a_stop() -> None:
    """A stop is bounded even when the last ack has nobody to go to."""
    seen, go = Seen(), asyncio.Event()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        await go.wait()
        return DONE

    async with Metrics("test") as metrics, asyncio.timeout(PATIENCE_SECONDS):
        async with serve(topology=TOPOLOGY) as endpoint:
            async with PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=endpoint.address) as publisher:
                bench = Bench(endpoint, publisher, metrics)
                await bench.publish(range(1))
            puller = bench.puller(handler, concurrency=1, drain_seconds=0.1)
            task = asyncio.create_task(puller.run())
            await seen.until(lambda: seen.data == [0])
        go.set()
        await puller.stop()
        await task


@pytest.mark.parametrize(
    "answer",
    [
        lambda client, **how: client.acknowledge(subscription="projects/p/subscriptions/s", ack_ids=["1"], **how),
        lambda client, **how: client.modify_ack_deadline(
            subscription="projects/p/subscriptions/s", ack_ids=["1"], ack_deadline_seconds=0, **how
        ),
    ],
)
def test_an_answer_that_cannot_be_sent_kills_no_thread(answer: Callable[..., None]) -> None:
    """When the library gives up on an ack, its threads see an error of the service, which they survive."""
    with open_subscriber("127.0.0.1:1") as client, pytest.raises(ServiceUnavailable):
        answer(client, retry=Retry(predicate=if_exception_type(ServiceUnavailable), timeout=0.05, initial=0.02))


async def test_server_restart_is_survived() -> None:
    """A broker that goes away and comes back, with everything forgotten, is pulled from again."""
    seen = Seen()

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    async with Metrics("test") as metrics:
        async with (
            serve(topology=TOPOLOGY) as first,
            PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=first.address) as publisher,
        ):
            bench = Bench(first, publisher, metrics)
            puller = bench.puller(handler, concurrency=1)
            task = asyncio.create_task(puller.run())
            await bench.publish(range(1))
            await seen.until(lambda: seen.data == [0])
        async with (
            serve(port=first.port, topology=TOPOLOGY) as second,
            PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=second.address) as publisher,
        ):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await _publish_until_stored(Bench(second, publisher, metrics), range(1, 2))
            await seen.until(lambda: seen.data == [0, 1])
            await puller.stop()
            await task


class FailsWhileItIsOpened(grpc.StreamStreamClientInterceptor):
    """The first stream has failed when its caller gets it; all others wait until there is a broker."""

    def __init__(self) -> None:
        self.failed, self.broker_is_up = Event(), Event()

    def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        """Open a stream."""
        if not self.failed.is_set():
            ended, call = Event(), continuation(client_call_details, request_iterator)
            call.add_done_callback(lambda _: ended.set())
            assert ended.wait(PATIENCE_SECONDS)
            self.failed.set()
            return call
        assert self.broker_is_up.wait(PATIENCE_SECONDS)
        return continuation(client_call_details._replace(wait_for_ready=True), request_iterator)


async def test_a_stream_that_fails_while_it_is_opened_leaves_none_behind_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a broker that was away for a moment, the library had a second stream: it got every other message."""
    seen, first = Seen(), FailsWhileItIsOpened()
    monkeypatch.setattr(
        "shared.pubsub.subscriber.stand_in_channel",
        lambda address: grpc.intercept_channel(stand_in_channel(address), first),
    )

    async def handler(delivery: Delivery) -> Outcome:
        await seen.add(delivery)
        return DONE

    port = free_port()
    async with Metrics("test") as metrics:
        puller = Puller(
            "work-bulk",
            handler,
            project_id="proj",
            metrics=metrics,
            concurrency=5,
            emulator_host=f"127.0.0.1:{port}",
        )
        async with pulling(puller):
            assert await asyncio.to_thread(first.failed.wait, PATIENCE_SECONDS)
            async with (
                serve(port=port, topology=TOPOLOGY) as endpoint,
                PubSubPublisher(project_id="proj", metrics=metrics, emulator_host=endpoint.address) as publisher,
            ):
                first.broker_is_up.set()
                bench = Bench(endpoint, publisher, metrics)
                await _publish_until_stored(bench, range(1))
                await seen.until(lambda: bool(seen.data))  # whichever stream got it, all are open now
                await bench.publish(range(1, 20))
                await seen.until(lambda: len(seen.data) == 20)
    assert sorted(seen.data) == list(range(20))


async def test_stop_before_run_and_twice(bench: Bench) -> None:
    """A puller that is told to stop before it starts takes nothing."""

    async def handler(_delivery: Delivery) -> Outcome:
        raise AssertionError("never handled")

    puller = bench.puller(handler, concurrency=1)
    await puller.stop()
    await puller.stop()
    await bench.publish(range(1))
    await puller.run()
