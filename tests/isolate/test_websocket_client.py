"""WebSockets that a worker opens: real sockets, with and without TLS, and servers that do not do as asked."""

import ssl
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from edge_process import PATIENCE_S
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from edge_runtime.event import EventContext, EventKind
from edge_runtime.isolate.events.socket_messages import WorkerSockets
from edge_runtime.isolate.outgoing.net import open_net
from edge_runtime.isolate.trio_flavour import TrioFlavour
from edge_runtime.testing.surroundings import RecordedEvents
from edge_runtime.workers import fetch
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket import WebSocket
from edge_runtime.workers.websocket_recipient import SocketFlags

CERTIFICATE = Path(__file__).parent / "localhost.pem"


class EchoServer:
    """Grants every WebSocket but those to /refused; "bye" is answered with a Close frame, "drop" with the end."""

    def __init__(self):
        self.requests = []
        self.closes = []

    async def serve(self, stream):
        connection = WSConnection(ConnectionType.SERVER)
        try:
            while True:
                connection.receive_data(await stream.receive_some(65536) or None)
                for event in connection.events():
                    if not await self._answer(stream, connection, event):
                        return
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream, connection, event):
        if isinstance(event, Request):
            self.requests.append(event)
            if event.target == "/refused":
                head = RejectConnection(status_code=403, headers=[(b"content-length", b"2")], has_body=True)
                await stream.send_all(connection.send(head) + connection.send(RejectData(data=b"no")))
                return False
            chosen = event.subprotocols[-1] if event.subprotocols else None
            greeting = connection.send(AcceptConnection(subprotocol=chosen)) + connection.send(TextMessage("hello"))
            await stream.send_all(greeting)
        elif isinstance(event, CloseConnection):
            self.closes.append((event.code, event.reason))
            if connection.state.name == "REMOTE_CLOSING":
                await stream.send_all(connection.send(event.response()))
            return False
        elif isinstance(event, Message):
            if event.data == "drop":
                return False
            if event.data == "bye":
                await stream.send_all(connection.send(CloseConnection(4001, "as you wish")))
            else:
                kind = BytesMessage if isinstance(event.data, (bytes, bytearray)) else TextMessage
                await stream.send_all(connection.send(kind(event.data, message_finished=event.message_finished)))
        return True


@asynccontextmanager
async def listening(serve, *, tls=False):
    """The port of a server on which `serve(stream)` runs for each connection."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    async def serve_connection(stream):
        await serve(trio.SSLStream(stream, context, server_side=True, https_compatible=True) if tls else stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve_connection, 0, host="127.0.0.1"))
        with trio.fail_after(PATIENCE_S):
            yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


class Script:
    """An event of a worker, and what the listeners of its sockets heard."""

    def __init__(self, event):
        self.event = event
        self.heard = []
        self._changed = trio.Event()

    def note(self, event):
        facts = [event.type]
        if event.type == "message":
            facts.append(event.data if isinstance(event.data, str) else event.data.to_bytes())
        elif event.type == "close":
            facts += [event.code, event.reason, event.wasClean]
        elif event.type == "error":
            facts.append(event.message)
        self.heard.append(facts)
        self._changed.set()
        self._changed = trio.Event()

    def listen(self, socket):
        for kind in ("open", "message", "close", "error"):
            socket.addEventListener(kind, self.note)
        return socket

    async def hears(self, *last):
        while self.heard[-len(last) :] != list(last):
            await self._changed.wait()

    async def run(self, fn, *args):
        return await self.event.run(fn, *args)


@asynccontextmanager
async def script():
    async with trio.open_nursery() as nursery, open_net() as net:
        events = RecordedEvents(nursery, TrioFlavour(), net)
        event = EventContext(EventKind.FETCH, "Default.fetch", nursery, TrioFlavour())
        event.net = net
        event.sockets = WorkerSockets(nursery, events, SocketFlags(auto_reply=True, blobs=False))
        begin = events.begin

        def with_sockets(*args, **options):
            made = begin(*args, **options)
            made.sockets = event.sockets
            return made

        events.begin = with_sockets
        with trio.fail_after(PATIENCE_S):
            yield Script(event)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("tls", [False, True])
async def test_a_new_websocket_opens_talks_and_closes(tls, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    server = EchoServer()
    async with listening(server.serve, tls=tls) as port, script() as worker:
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/chat?room=a"
        socket = await worker.run(lambda: worker.listen(WebSocket.new(url, ["one", "two"])))
        assert (socket.readyState, socket.url, socket.protocol) == (WebSocket.CONNECTING, url, "")
        with pytest.raises(TypeError, match=r"You must call one of accept\(\)"):
            await worker.run(socket.send, "too early")
        with pytest.raises(TypeError, match="cannot call accept"):
            await worker.run(socket.accept)
        await worker.hears(["open"], ["message", "hello"])
        assert (socket.readyState, socket.protocol) == (WebSocket.OPEN, "two")
        (request,) = server.requests
        assert (request.target, request.host, request.extensions) == ("/chat?room=a", f"localhost:{port}", [])
        big = "x" * 300_000
        for message in ("a", b"\x00\xff"):
            await worker.run(socket.send, message)
            await worker.hears(["message", message])
        await worker.run(socket.send, big)
        while sum(len(facts[1]) for facts in worker.heard if facts[0] == "message") < len(big) + 8:
            await worker._changed.wait()
        await worker.run(socket.close, 3000, "enough")
        await worker.hears(["close", 3000, "enough", True])
        assert server.closes == [(3000, "enough")]
        assert socket.readyState == WebSocket.CLOSED


async def test_the_server_closes_or_vanishes():
    async with listening(EchoServer().serve) as port, script() as worker:
        for said, heard in (
            ("bye", ["close", 4001, "as you wish", True]),
            ("drop", ["close", 1006, "WebSocket disconnected without sending Close frame.", False]),
        ):
            socket = await worker.run(lambda: worker.listen(WebSocket.new(f"ws://localhost:{port}")))
            await worker.hears(["message", "hello"])
            await worker.run(socket.send, said)
            await worker.hears(heard)
            assert socket.readyState == WebSocket.CLOSED


FAILED = ["close", 1006, "Failed to establish websocket connection", False]


async def test_a_connection_that_cannot_be_had_is_an_error_and_a_close():
    async with listening(EchoServer().serve) as port, script() as worker:
        socket = await worker.run(lambda: worker.listen(WebSocket.new(f"ws://localhost:{port}/refused")))
        expected = "expected server to reply with HTTP status code 101 (switching protocols), but received 403 instead."
        error = f"Failed to establish the WebSocket connection: {expected}"
        await worker.hears(["error", error], FAILED)
        assert socket.readyState == WebSocket.CLOSED
        assert await worker.run(socket.send, "nothing") is None
    async with script() as worker:
        await worker.run(lambda: worker.listen(WebSocket.new(f"ws://localhost:{port}")))
        await worker.hears(FAILED)
        assert f"localhost:{port}" in worker.heard[0][1]


async def test_a_certificate_that_nobody_vouches_for_is_refused():
    async with listening(EchoServer().serve, tls=True) as port, script() as worker:
        await worker.run(lambda: worker.listen(WebSocket.new(f"wss://localhost:{port}")))
        await worker.hears(FAILED)
        assert "certificate" in worker.heard[0][1].lower()


async def test_closed_before_it_was_connected():
    async def silent(stream):
        await trio.sleep_forever()

    async with listening(silent) as port, script() as worker:
        socket = await worker.run(lambda: worker.listen(WebSocket.new(f"ws://localhost:{port}")))
        await worker.run(socket.close)
        await worker.hears(["error", "Called close before connection was established."], FAILED)


ACCEPT = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (ACCEPT + b"sec-websocket-accept: wrong\r\n\r\n", "wrong Sec-WebSocket-Accept"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n", "does not upgrade"),
        (ACCEPT + b"%s\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n", "extensions that were not offered"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "illegal status line"),
        (b"HTTP/1.1 200", "closed connection"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 400_000, "too long|limit|large"),
    ],
)
async def test_a_server_that_breaks_the_handshake(answer, why):
    from wsproto.utilities import generate_accept_token

    async def misbehave(stream):
        head = bytes(await stream.receive_some(65536))
        key = next(line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"sec-websocket-key"))
        given = b"sec-websocket-accept: " + generate_accept_token(key)
        try:
            await stream.send_all(answer.replace(b"%s", given))
            await stream.send_eof()
            await stream.receive_some(1)
        except trio.BrokenResourceError:
            return  # the client has had enough

    async with listening(misbehave) as port, script() as worker:
        with pytest.raises(OSError, match=why):
            await worker.run(fetch_socket, f"http://localhost:{port}")


async def fetch_socket(url, **headers):
    return await fetch(url, headers={"Upgrade": "WebSocket", **headers})


async def test_fetch_with_an_upgrade_gives_the_socket_with_the_response():
    server = EchoServer()
    async with listening(server.serve) as port, script() as worker:
        url = f"http://localhost:{port}/chat"
        mine = {"sec-websocket-protocol": "p", "Sec-WebSocket-Extensions": "x-mine", "Host": "elsewhere", "X-Own": "1"}
        response = await worker.run(lambda: fetch_socket(url, **mine))
        assert (response.status, response.headers["sec-websocket-protocol"], response.body) == (101, "p", None)
        (request,) = server.requests
        assert (request.host, request.extensions, request.subprotocols) == (f"localhost:{port}", [], ["p"])
        assert (b"x-own", b"1") in request.extra_headers
        socket = response.js_object.webSocket
        assert socket is response.web_socket
        worker.listen(socket)
        with pytest.raises(TypeError, match="before sending messages"):
            await worker.run(socket.send, "x")
        await worker.run(socket.accept)
        await worker.hears(["message", "hello"])
        await worker.run(socket.send, "ping")
        await worker.hears(["message", "ping"])
        refused = await worker.run(lambda: fetch_socket(f"http://localhost:{port}/refused"))
        assert (refused.status, await worker.run(refused.text), refused.web_socket) == (403, "no", None)


async def test_a_socket_that_nobody_takes_closes_its_connection():
    ended = trio.Event()

    async def serve(stream):
        await EchoServer().serve(stream)
        ended.set()

    async with listening(serve) as port, script() as worker:
        response = await worker.run(lambda: fetch_socket(f"http://localhost:{port}"))
        assert response.web_socket is not None
        del response
        await ended.wait()


async def test_the_end_of_a_workers_event_ends_its_conversations(autojump_clock):
    """There is no Durable Object to keep them: they get the time that waitUntil gets."""
    async with script() as worker:
        closed = []

        class Link:
            def listen(self, receiver):
                self.receiver = receiver

            def abort(self, error=None):
                closed.append(trio.current_time())

        socket = WebSocket(Link(), SocketFlags(), to_server=True)
        await worker.run(socket.accept)
        begun = trio.current_time()
        await worker.event.finish()
        assert [at - begun for at in closed] == [30]


@pytest.mark.parametrize(
    ("url", "protocols", "why"),
    [
        ("nonsense", None, "The url is invalid"),
        ("http://example.com", None, "The url scheme must be ws or wss"),
        ("ws://example.com/#part", None, "The url fragment must be empty"),
        ("ws://example.com", "", "The protocol header token is invalid"),
        ("ws://example.com", ["a", "b c"], "One of the protocol header tokens is invalid"),
        ("ws://example.com", ["a", "a"], "The protocols header cannot have repeating values"),
    ],
)
async def test_urls_and_protocols_that_cannot_be_used(url, protocols, why):
    async with script() as worker:
        with pytest.raises(JsException, match=f"WebSocket Constructor: {why}") as refused:
            await worker.run(lambda: WebSocket.new(url, protocols))
        assert refused.value.name == "SyntaxError"
