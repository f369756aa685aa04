"""The WebSocket side of the connection seam on real sockets: messages, closing, back-pressure, hostile clients."""

import struct
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
import trio.lowlevel
import trio.testing
from edge_process import PATIENCE_S
from websocket_client import Refused, WebSocketClient
from wsproto.extensions import PerMessageDeflate

from edge_runtime.isolate.http.open_connections import OpenConnections
from edge_runtime.isolate.hypercorn.server import HypercornServer
from edge_runtime.isolate.websockets import connection as websocket_connection
from edge_runtime.isolate.websockets import writer as websocket_writer


class Recorder:
    """A receiver that keeps what it gets, and says at once that it has handled it unless it is `slow`."""

    def __init__(self, link, *, slow=False):
        self.link = link
        self.slow = slow
        self.got = []
        self.unhandled = []
        self.over = trio.Event()

    def message(self, data, handled):
        self.got.append(data)
        if self.slow:
            self.unhandled.append(handled)
        else:
            handled()

    def close(self, code, reason):
        self.got.append((code, reason))
        self.over.set()

    def lost(self, error):
        self.got.append(("lost", error))
        self.over.set()


class Echo(Recorder):
    def message(self, data, handled):
        super().message(data, handled)
        self.link.send(data)

    def close(self, code, reason):
        super().close(code, reason)
        self.link.close(code, reason)


class Serving:
    """Upgrades everything; `received` are the receivers in the order of the connections."""

    def __init__(self, receiver=Echo, headers=(), **options):
        self.received = []
        self._make = lambda link: receiver(link, **options)
        self._headers = headers
        self.connections = OpenConnections()
        self.server = HypercornServer(self.app, self.connections)

    async def app(self, exchange):
        if not exchange.upgradable:
            await exchange.respond(426, [(b"content-length", b"0")], b"")
            return
        link = await exchange.upgrade(self._headers)
        receiver = self._make(link)
        self.received.append(receiver)
        link.listen(receiver)

    @asynccontextmanager
    async def open(self):
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        async with AsyncExitStack() as clients, listener, trio.open_nursery() as nursery:

            async def accept():
                while True:
                    nursery.start_soon(self.server.serve, await listener.accept())

            async def connect(**options):
                stream = await clients.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
                client = WebSocketClient(stream)
                before = len(self.received)
                await client.handshake(**options)
                while len(self.received) == before:
                    await trio.lowlevel.checkpoint()
                return client

            nursery.start_soon(accept)
            with trio.fail_after(PATIENCE_S):
                yield connect
            nursery.cancel_scope.cancel()

    async def empty(self):
        while len(self.connections):
            await trio.sleep(0.01)


def frame(opcode, payload=b"", *, fin=True, masked=True, rsv=0):
    """A client's frame, valid or not."""
    head = bytes([(fin << 7) | (rsv << 4) | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([masked << 7 | size])
    elif size < 65536:
        head += bytes([masked << 7 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([masked << 7 | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + payload


async def test_text_and_binary_messages_come_back_in_order():
    serving = Serving()
    async with serving.open() as connect:
        client = await connect()
        for message in ("a", "\N{SNOWMAN}", b"\x00\xff", "", b"", "x" * 300_000, b"y" * 70_000):
            await client.send(message)
            assert await client.receive() == message


async def test_fragments_are_put_together_with_pings_answered_between_them():
    serving = Serving()
    async with serving.open() as connect:
        client = await connect()
        snowman = "\N{SNOWMAN}".encode()
        await client.stream.send_all(frame(1, b"a" + snowman[:1], fin=False) + frame(9, b"now") + frame(0, snowman[1:]))
        await client.receive()
        assert client.pongs == [b"now"]
        assert await client.receive() == "a\N{SNOWMAN}"


async def test_close_carries_code_and_reason_both_ways_and_ends_the_connection():
    serving = Serving()
    async with serving.open() as connect:
        client = await connect()
        await client.close(4001, "done")
        assert await client.receive() == (4001, "done")
        assert await client.receive() is None
        assert serving.received[0].got == [(4001, "done")]
        await serving.empty()


async def test_close_without_a_code_is_1005():
    serving = Serving()
    async with serving.open() as connect:
        client = await connect()
        await client.stream.send_all(frame(8))
        assert await client.receive() == (1005, "")
        assert serving.received[0].got == [(1005, "")]


async def test_server_closes_first_and_hears_the_answer():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        serving.received[0].link.send("last")
        serving.received[0].link.close(1001, "bye")
        assert [await client.receive(), await client.receive(), await client.receive()] == ["last", (1001, "bye"), None]
        assert serving.received[0].got == [(1001, "bye")]


async def test_messages_after_a_received_close_still_go_out_before_it_is_answered():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.close(1000)
        receiver = serving.received[0]
        await receiver.over.wait()
        receiver.link.send("one more")
        receiver.link.close(1000, "")
        assert [await client.receive(), await client.receive(), await client.receive()] == [
            "one more",
            (1000, ""),
            None,
        ]


async def test_client_that_does_not_answer_a_close_is_given_up(monkeypatch):
    monkeypatch.setattr(websocket_connection, "WEBSOCKET_CLOSE_S", 0.05)
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        client.answers_close = False
        serving.received[0].link.close(1000, "")
        assert await client.receive() == (1000, "")
        assert await client.receive() is None
        assert serving.received[0].got == [("lost", None)]
        await client.drop()
        await serving.empty()


async def test_client_that_leaves_is_reported_lost():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.drop()
        await serving.received[0].over.wait()
        assert serving.received[0].got == [("lost", None)]
        await serving.empty()


async def test_ping_is_answered_without_the_receiver():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.ping(b"hello")
        await client.receive()
        assert client.pongs == [b"hello"]
        assert serving.received[0].got == []


async def test_headers_of_the_script_go_into_the_answer_but_not_those_of_the_protocol():
    serving = Serving(headers=[(b"x-room", b"blue"), (b"connection", b"close"), (b"content-length", b"5")])
    async with serving.open() as connect:
        client = await connect()
        assert client.headers == {"x-room": "blue"}


async def test_subprotocol_chosen_by_the_script_reaches_the_client():
    serving = Serving(headers=[(b"sec-websocket-protocol", b"chat.v2")])
    async with serving.open() as connect:
        await connect(subprotocols=["chat.v1", "chat.v2"])


async def test_compression_that_a_client_offers_is_not_taken_up():
    serving = Serving()
    async with serving.open() as connect:
        client = await connect(extensions=[PerMessageDeflate()])
        assert client.headers == {}
        await client.send("plain")
        assert await client.receive() == "plain"


async def test_malformed_header_of_the_script_refuses_the_upgrade():
    async def app(exchange):
        with pytest.raises(ValueError, match="unusable header"):
            await exchange.upgrade([(b"x", b"a\r\nb: c")])
        await exchange.respond(500, [(b"content-length", b"0")], b"")

    serving = Serving()
    serving.server.app = app
    async with serving.open() as connect:
        with pytest.raises(Refused, match="500"):
            await connect()


async def test_reading_stops_while_messages_are_unhandled():
    serving = Serving(Recorder, slow=True)
    async with serving.open() as connect:
        client = await connect()
        for number in range(500):
            await client.send(str(number))
        receiver = serving.received[0]
        await trio.testing.wait_all_tasks_blocked(0.05)
        held = len(receiver.got)
        assert held < 500
        while len(receiver.got) < 500:
            for handled in receiver.unhandled:
                handled()
            receiver.unhandled.clear()
            await trio.sleep(0.01)
        assert receiver.got == [str(number) for number in range(500)]


async def test_client_that_does_not_read_is_cut_off_after_the_write_deadline(monkeypatch):
    monkeypatch.setattr(websocket_writer, "WRITE_TIMEOUT_S", 0.1)
    serving = Serving(Recorder)
    async with serving.open() as connect:
        await connect()
        receiver = serving.received[0]
        for _ in range(200):
            receiver.link.send(b"x" * 100_000)
        await receiver.over.wait()
        assert receiver.got == [("lost", None)]
        await serving.empty()


async def test_client_for_which_too_much_waits_is_cut_off(monkeypatch):
    monkeypatch.setattr(websocket_writer, "WEBSOCKET_UNSENT_MAX", 10_000_000)
    serving = Serving(Recorder)
    async with serving.open() as connect:
        await connect()
        receiver = serving.received[0]
        for _ in range(1000):
            receiver.link.send(b"x" * 100_000)
        await receiver.over.wait()
        assert receiver.link._unsent_bytes == 0


async def test_slow_reader_gets_everything_in_order():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        for number in range(100):
            serving.received[0].link.send(f"{number}:" + "x" * 100_000)
        serving.received[0].link.close(1000, "")
        for number in range(100):
            assert (await client.receive()).startswith(f"{number}:")
        assert await client.receive() == (1000, "")


async def test_flood_of_pings_from_a_client_that_does_not_read_stops_being_read():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        with trio.move_on_after(0.5) as limit:
            while True:
                await client.stream.send_all(frame(9, b"x" * 125) * 1000)
        assert limit.cancelled_caught
        assert serving.received[0].link._unsent_bytes < 4_000_000


async def test_message_over_the_limit_is_refused_with_1009(monkeypatch):
    monkeypatch.setattr(websocket_connection, "WEBSOCKET_MESSAGE_MAX", 1000)
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.send("x" * 1000)
        await client.send("\N{SNOWMAN}" * 334)
        assert await client.receive() == (1009, "")
        assert serving.received[0].got == ["x" * 1000, ("lost", "a message is larger than 1000 bytes")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(3, b"a"), 1002),
        (frame(11, b"a"), 1002),
        (frame(1, b"a", masked=False), 1002),
        (b"\x81\xff" + struct.pack("!Q", 2**63) + bytes(4), 1002),
        (b"\x81\xfe" + struct.pack("!H", 5) + bytes(4) + b"hello", 1002),
        (frame(1, b"\xff\xfe"), 1007),
        (frame(1, b"a\xe2\x98", fin=False) + frame(0, b"b"), 1007),
        (frame(0, b"a"), 1002),
        (frame(1, b"a", fin=False) + frame(1, b"b"), 1002),
        (frame(1, b"a", rsv=4), 1002),
        (frame(1, b"a", rsv=1), 1002),
        (frame(9, b"a" * 126), 1002),
        (frame(9, b"a", fin=False), 1002),
        (frame(8, b"\x03"), 1002),
        (frame(8, struct.pack("!H", 1006)), 1002),
        (frame(8, struct.pack("!H", 999)), 1002),
        (frame(8, struct.pack("!H", 1000) + b"\xff"), 1007),
    ],
)
async def test_breach_of_the_protocol_is_answered_with_its_code_and_harms_no_other_client(data, code):
    serving = Serving()
    async with serving.open() as connect:
        good, bad = await connect(), await connect()
        await bad.stream.send_all(data)
        assert (await bad.receive())[0] == code
        await good.send("still here")
        assert await good.receive() == "still here"
        await bad.drop()
        (kind, error) = serving.received[1].got[-1]
        assert kind == "lost"
        assert error


async def test_announced_length_costs_nothing_before_the_bytes_are_there():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.stream.send_all(b"\x82\xff" + struct.pack("!Q", 2**62) + bytes(4) + b"abc")
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert serving.received[0].got == []
        await client.drop()
        await serving.empty()


async def test_endless_fragments_are_refused_with_1009(monkeypatch):
    monkeypatch.setattr(websocket_connection, "WEBSOCKET_MESSAGE_MAX", 10_000)
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        await client.stream.send_all(frame(2, b"a", fin=False) + frame(0, b"a", fin=False) * 10_001)
        assert (await client.receive())[0] == 1009


async def test_frames_sent_before_the_upgrade_is_granted_refuse_it():
    go_on = trio.Event()

    async def app(exchange):
        await go_on.wait()
        await exchange.upgrade([])

    serving = Serving()
    serving.server.app = app
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:

        async def accept():
            await serving.server.serve(await listener.accept())

        nursery.start_soon(accept)
        async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
            await stream.send_all(
                b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await stream.send_all(frame(1, b"early"))
            with trio.fail_after(PATIENCE_S):
                assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 400")
        nursery.cancel_scope.cancel()


async def test_drain_closes_sockets_with_1012():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        client = await connect()
        serving.received[0].link.send("before")
        await serving.server.drain()
        assert [await client.receive(), await client.receive()] == ["before", (1012, "Service Restart")]
        await serving.connections.wait_empty()


async def test_upgraded_connections_keep_nothing_of_hypercorn():
    serving = Serving(Recorder)
    async with serving.open() as connect:
        await connect()
        await trio.testing.wait_all_tasks_blocked(0.02)
        (kept,) = serving.connections._open
        assert type(kept).__name__ == "WebSocketConnection"
