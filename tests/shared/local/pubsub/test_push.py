"""Push beyond the shared suite: how it slows down, speeds up, and meets those who do not speak HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from shared.local.pubsub.endpoint import Endpoint, serve
from shared.local.pubsub.push import FIRST_WINDOW, LONGEST_BACKOFF_SECONDS
from shared.local.pubsub.topology import SubscriptionSpec, Topology
from shared.local.pubsub.wire import PubsubMessage
from tests.plugins.clock import ManualClock

SUBSCRIPTION = "projects/p/subscriptions/push"


class Line:
    """A server that answers every request with the same bytes, and says when one has come."""

    def __init__(self) -> None:
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.requests: asyncio.Queue[bytes] = asyncio.Queue()
        self.held: asyncio.Event | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.requests.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        if self.held is not None:
            await self.held.wait()
        writer.write(self.answer)
        writer.close()

    async def next(self) -> bytes:
        """Wait for a request and return its head."""
        async with asyncio.timeout(10):
            return await self.requests.get()


@pytest.fixture
async def line() -> AsyncIterator[tuple[Line, int]]:
    """Listen on a free port."""
    line = Line()
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    async with server:
        yield line, server.sockets[0].getsockname()[1]


def topology(port: int) -> Topology:
    """Describe one subscription that pushes."""
    spec = SubscriptionSpec(
        name="push", topic="work", push_endpoint=f"http://127.0.0.1:{port}/a?b=c", push_service_account="p@example"
    )
    return Topology(project="p", topics=("work",), subscriptions=(spec,))


def publish(endpoint: Endpoint, *texts: str, **attributes: str) -> None:
    """Publish without a client."""
    messages = [PubsubMessage(data=text.encode(), attributes=attributes) for text in texts]
    endpoint.broker.publish("projects/p/topics/work", messages, 1)


async def until(look: Callable[[], bool]) -> None:
    """Give the endpoint its turns until something is so."""
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110 - the broker has no event for what is looked at here
            await asyncio.sleep(0)


async def test_a_refusal_holds_up_the_subscription_for_longer_each_time(line: tuple[Line, int]) -> None:
    """The back-off doubles up to a minute, and what is published meanwhile waits as well."""
    server, port = line
    clock = ManualClock()
    server.answer = b"HTTP/1.1 500 No\r\n\r\n"
    async with serve(clock=clock, topology=topology(port)) as endpoint:
        subscription = endpoint.broker.subscription(SUBSCRIPTION)
        publish(endpoint, "bad")
        for wait_seconds in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, LONGEST_BACKOFF_SECONDS):
            await server.next()
            await until(lambda: subscription.leased == 0)
            clock.advance(wait_seconds - 0.01)
            for _ in range(20):
                await asyncio.sleep(0)
            assert (subscription.leased, server.requests.empty()) == (0, True)
            clock.advance(0.02)
        await server.next()
        await until(lambda: subscription.leased == 0)
        publish(endpoint, "good")
        assert subscription.leased == 0
        server.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        clock.advance(LONGEST_BACKOFF_SECONDS)
        await until(lambda: subscription.backlog == 0)


async def test_no_more_requests_are_open_than_the_window_allows(line: tuple[Line, int]) -> None:
    """A new subscription begins with a few at once; each answer widens its window."""
    server, port = line
    server.held = asyncio.Event()
    async with serve(topology=topology(port)) as endpoint:
        subscription = endpoint.broker.subscription(SUBSCRIPTION)
        publish(endpoint, *["x"] * 40)
        for _ in range(FIRST_WINDOW):
            await server.next()
        assert (subscription.leased, server.requests.empty()) == (FIRST_WINDOW, True)
        server.held.set()
        for _ in range(40 - FIRST_WINDOW):
            await server.next()
        await until(lambda: subscription.backlog == 0)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 \r\n\r\n", b"x" * 200_000, b"HTTP/1.1 abc\r\n"])
async def test_who_does_not_speak_http_has_not_acknowledged(line: tuple[Line, int], answer: bytes) -> None:
    """A closed connection and an answer that is none are nacks, and the endpoint goes on."""
    server, port = line
    server.answer = answer
    async with serve(topology=topology(port)) as endpoint:
        subscription = endpoint.broker.subscription(SUBSCRIPTION)
        publish(endpoint, "x")
        await server.next()
        server.answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
        await server.next()
        await until(lambda: subscription.backlog == 0)


async def test_nobody_there_is_no_end() -> None:
    """A receiver that starts after the first tries gets its messages; the path and the token arrive with them."""
    gone = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    late_port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    server = Line()
    async with serve(topology=topology(late_port)) as endpoint:
        subscription = endpoint.broker.subscription(SUBSCRIPTION)
        publish(endpoint, "x", header="value\r\nx-evil: 1")
        await until(lambda: not subscription.leased)
        async with await asyncio.start_server(server.serve, "127.0.0.1", late_port):
            head = await server.next()
            await until(lambda: subscription.backlog == 0)
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
    assert b"\r\nAuthorization: Bearer " in head
    assert b"x-evil" not in head


async def test_pushing_ends_with_its_subscription(line: tuple[Line, int]) -> None:
    """After a deletion nothing is sent; a new subscription of the name pushes where it says."""
    server, port = line
    async with serve(topology=topology(port)) as endpoint:
        old = endpoint.broker.subscription(SUBSCRIPTION).config
        endpoint.broker.delete_subscription(SUBSCRIPTION)
        publish(endpoint, "lost")
        assert endpoint.broker.pushing() == []
        endpoint.broker.create_subscription(old)
        publish(endpoint, "found")
        await server.next()
        await until(lambda: endpoint.broker.subscription(SUBSCRIPTION).backlog == 0)
        assert server.requests.empty()
