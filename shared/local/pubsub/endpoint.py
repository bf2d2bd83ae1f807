"""`serve()`: the broker behind an address, for as long as a context lasts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf

import grpc

from shared.clock import Clock, SystemClock
from shared.local.pubsub.broker import Broker
from shared.local.pubsub.mux import open_port
from shared.local.pubsub.push import PushService
from shared.local.pubsub.rest import rest_app
from shared.local.pubsub.server import Api, add_grpc
from shared.local.pubsub.tokens import TokenIssuer
from shared.local.pubsub.topology import Topology

STOP_GRACE_SECONDS = 0.5
"""Time for the streams to be told that the endpoint goes away; usually they need none of it."""


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint: its address for PUBSUB_EMULATOR_HOST, and the broker for tests that steer it."""

    host: str
    port: int
    broker: Broker

    @property
    def address(self) -> str:
        """The address as "host:port"."""
        return f"{self.host}:{self.port}"


@asynccontextmanager
async def serve(
    host: str = "127.0.0.1", port: int = 0, *, clock: Clock | None = None, topology: Topology | None = None
) -> AsyncIterator[Endpoint]:
    """Serve Pub/Sub on `host:port` (0: any free port) until the context ends.

    The topology exists before the port opens, so that no client ever meets a topic that is missing. All state is in
    memory and ends with the context.

    Raises:
        DependencyUnavailable: the port is taken.
        InvalidRequest, NotFound: the topology is wrong.
    """
    clock = clock or SystemClock()
    earlier, pushes = asyncio.Event(), asyncio.Event()
    broker = Broker(clock, on_earlier_wakeup=earlier.set, on_push_change=pushes.set)
    tokens = TokenIssuer(clock)
    if topology is not None:
        topology.create(broker)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    api = Api(broker)
    add_grpc(server, api)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    duties = {
        asyncio.create_task(_run_timers(broker, clock, earlier)),
        asyncio.create_task(PushService(broker, clock, tokens, pushes).run()),
    }
    await server.start()
    try:
        async with open_port(host, port, grpc_port=grpc_port, app=rest_app(api, tokens)) as bound_port:
            try:
                yield Endpoint(host, bound_port, broker)
            finally:
                broker.close()
                await server.stop(STOP_GRACE_SECONDS)
    finally:
        for duty in duties:
            duty.cancel()
        await asyncio.wait(duties)
        await server.stop(None)  # again, if the port could not be opened
        for duty in duties:
            if not duty.cancelled():
                duty.result()  # a timer that died would have left leases for ever: say so


async def _run_timers(broker: Broker, clock: Clock, earlier: asyncio.Event) -> None:
    """Call `tick` whenever something is due on the clock."""
    while True:
        earlier.clear()
        due_seconds = broker.arm()
        moved = asyncio.create_task(earlier.wait())
        waits: set[asyncio.Task[object]] = {moved}
        if due_seconds < inf:
            waits.add(asyncio.create_task(clock.sleep(due_seconds - clock.monotonic())))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        broker.tick()
