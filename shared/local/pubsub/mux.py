"""One port for two protocols: HTTP/2 connections go on to the gRPC server, HTTP/1 is answered here.

Clients know one address for both (PUBSUB_EMULATOR_HOST, gcloud's endpoint override), and gRPC's server cannot hand a
connection over, so its connections are piped to it through the loopback interface.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from shared.errors import DependencyUnavailable

_PREFACE = b"PRI"  # every HTTP/2 connection begins with it; no HTTP/1 method does


@asynccontextmanager
async def open_port(host: str, port: int, *, grpc_port: int, app: web.Application) -> AsyncIterator[int]:
    """Listen on `host:port` (0: any free port) and give the port.

    Raises:
        DependencyUnavailable: the port is taken.
    """
    loop = asyncio.get_running_loop()
    # A request that waits for messages ends with its client, so that nothing is delivered to nobody.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    open_pipes: set[asyncio.Transport] = set()
    try:
        try:
            listener = await loop.create_server(
                lambda: _Doorkeeper(runner, grpc_port, open_pipes), host, port, backlog=256
            )
        except OSError as error:
            raise DependencyUnavailable(f"The address {host}:{port} is taken: {error}") from error
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for transport in open_pipes.copy():
                transport.close()
            await listener.wait_closed()
    finally:
        await runner.cleanup()


class _Doorkeeper(asyncio.Protocol):
    """Reads the first bytes of a connection and hands it to who can talk to it."""

    def __init__(self, runner: web.AppRunner, grpc_port: int, open_pipes: set[asyncio.Transport]) -> None:
        self._runner = runner
        self._grpc_port = grpc_port
        self._open_pipes = open_pipes
        self._received = b""
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open_pipes.add(transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < len(_PREFACE):
            return
        if self._received.startswith(_PREFACE):
            self._transport.pause_reading()
            self._connecting = asyncio.create_task(self._connect())
            return
        self._open_pipes.discard(self._transport)  # from here on the runner's
        server = self._runner.server
        assert server is not None
        handler = server()
        handler.connection_made(self._transport)
        self._transport.set_protocol(handler)
        handler.data_received(self._received)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._open_pipes.discard(self._transport)
        if self._connecting is not None:
            self._connecting.cancel()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            back, _ = await loop.create_connection(
                lambda: _Pipe(self._transport, self._open_pipes), "127.0.0.1", self._grpc_port
            )
        except OSError:  # the server is going down
            self._transport.close()
            return
        back.write(self._received)
        self._transport.set_protocol(_Pipe(back, self._open_pipes, own=self._transport))
        self._transport.resume_reading()


class _Pipe(asyncio.Protocol):
    """Writes what one side sends to the other, no faster than it takes it, and closes both together."""

    def __init__(
        self, peer: asyncio.Transport, open_pipes: set[asyncio.Transport], own: asyncio.Transport | None = None
    ) -> None:
        self._peer = peer
        self._own = own
        self._open_pipes = open_pipes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._own = transport
        self._open_pipes.add(transport)

    def data_received(self, data: bytes) -> None:
        self._peer.write(data)

    def pause_writing(self) -> None:
        self._peer.pause_reading()

    def resume_writing(self) -> None:
        self._peer.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        if self._own is not None:
            self._open_pipes.discard(self._own)
        self._peer.close()
