"""A request for another worker on a connection that this isolate holds.

A connection is handed over by its first request, and a client may send another one on it whose host or path belongs
elsewhere. That request goes to the supervisor's ingress on its Unix socket, which hands it over like any other; only
the bytes of the two bodies pass through here, or the messages of the WebSocket that it asks for.
"""

from __future__ import annotations

from pathlib import Path

import h11
import trio

from edge_runtime.config.model import Route
from edge_runtime.control import Routes
from edge_runtime.isolate.http.exchange import Exchange, RawHeaders
from edge_runtime.isolate.outgoing.websocket import ask_for_socket
from edge_runtime.routing import RoutingTable
from edge_runtime.socket_paths import ingress_socket, socket_address
from edge_runtime.workers.websocket_link import couple

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"expect"}
)
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
_TRIES = 3
_RECEIVE_BYTES = 64 * 1024


class Relay:
    """Knows which requests are not this worker's, and passes those on."""

    def __init__(self, worker: str, data_dir: Path, conversations: trio.Nursery) -> None:
        """`conversations`: where those with other workers run that begin as WebSockets."""
        self._worker = worker
        self._conversations = conversations
        self._ingress_socket = ingress_socket(data_dir)
        self._table: RoutingTable | None = None

    def routes_changed(self, routes: Routes) -> None:
        table = RoutingTable(
            {entry.worker: [Route(host, path, exact) for host, path, exact in entry.routes] for entry in routes.workers}
        )
        self._table = None if table.sole is not None else table

    def wants(self, exchange: Exchange) -> bool:
        """Whether the request belongs to another worker. One that was relayed already is served where it came."""
        table = self._table
        if table is None or exchange.relayed:
            return False
        host = next((value for name, value in exchange.headers if name == b"host"), b"")
        return table.choose(host.decode("latin-1"), exchange.target.decode("latin-1")) != self._worker

    async def pass_on(self, exchange: Exchange) -> None:
        """Relay one exchange; 502 if the other worker's answer cannot be had.

        A request that may be repeated is sent again if the isolate that got it died before it answered.
        """
        if exchange.upgradable:
            if not await self._upgrade(exchange):
                await _no_answer(exchange)
            return
        bodiless = not any(name in (b"content-length", b"transfer-encoding") for name, _ in exchange.headers)
        for _ in range(_TRIES if bodiless and exchange.method in _REPEATABLE else 1):
            if await self._try(exchange):
                return
        await _no_answer(exchange)

    async def _upgrade(self, exchange: Exchange) -> bool:
        """As `_try`, for a request that asks for a WebSocket."""
        try:
            with socket_address(self._ingress_socket) as address:
                stream = await trio.open_unix_socket(address)
            host = next((value for name, value in exchange.headers if name == b"host"), b"")
            reply = await ask_for_socket(stream, self._conversations, host, exchange.target, exchange.headers)
        except OSError:
            return False
        if reply.socket is not None:
            try:
                couple(reply.socket, await exchange.upgrade(_end_to_end(reply.headers)))
            except BaseException:
                reply.socket.abort()
                raise
            return True
        try:
            await exchange.start(reply.status, _end_to_end(reply.headers))
            while (piece := await reply.receive()) is not None:
                await exchange.send(piece)
            await exchange.end()
        except OSError:
            pass  # the answer is cut off, as it was over there
        finally:
            await reply.close()
        return True

    async def _try(self, exchange: Exchange) -> bool:
        """Whether the exchange is over: answered, or failed in the middle of its answer."""
        try:
            with socket_address(self._ingress_socket) as address:
                stream = await trio.open_unix_socket(address)
            async with stream:
                await _Relayed(stream, exchange).run()
        except* (OSError, trio.BrokenResourceError, h11.RemoteProtocolError):
            pass  # whether the answer had begun says what is to be done
        return exchange.started


async def _no_answer(exchange: Exchange) -> None:
    await exchange.respond(502, (), b"")


class _Relayed:
    def __init__(self, stream: trio.SocketStream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        self._connection = h11.Connection(h11.CLIENT)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send_request)
            await self._receive_response()
            nursery.cancel_scope.cancel()  # an answer may be complete before the request's body is

    async def _send_request(self) -> None:
        exchange = self._exchange
        headers = [*_end_to_end(exchange.headers), (b"connection", b"close")]
        if any(name == b"transfer-encoding" for name, _ in exchange.headers):
            headers.append((b"transfer-encoding", b"chunked"))
        await self._send(h11.Request(method=exchange.method, target=exchange.target, headers=headers))
        while (piece := await exchange.receive()) is not None:
            await self._send(h11.Data(data=piece))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Event) -> None:
        data = self._connection.send(event)
        if data:
            await self._stream.send_all(data)

    async def _receive_response(self) -> None:
        exchange = self._exchange
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._stream.receive_some(_RECEIVE_BYTES))
            elif isinstance(event, h11.Response):
                await exchange.start(event.status_code, _end_to_end(event.headers))
            elif isinstance(event, h11.Data):
                await exchange.send(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                await exchange.end()
                return


def _end_to_end(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name not in _HOP_BY_HOP]
