"""Hibernatable WebSockets of Durable Objects: events, eviction, tags, attachments, gates, resets."""

import pytest
import trio
from durable_object_world import world
from socket_rooms import Room, join, settled

from edge_runtime.event import Outcome
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers.entrypoints import DurableObject
from edge_runtime.workers.js_object import JsException
from edge_runtime.workers.websocket_pair import WebSocketPair, WebSocketRequestResponsePair


async def test_object_receives_messages_and_answers_every_socket():
    async with world(Room) as here:
        one, two = await join(here), await join(here)
        one.say("hello")
        await settled()
        assert [one.got, two.got] == [["welcome", "1:hello"], ["welcome", "1:hello"]]
        two.say(b"abc")
        await settled()
        assert two.got[-1] == b"cba"
        assert one.unhandled == two.unhandled == 0
        assert ("Room.webSocketMessage", Outcome.OK) in here.events.ended


async def test_evicted_object_keeps_its_sockets_and_a_message_brings_it_back(autojump_clock):
    async with world(Room, idle_ms=5_000) as here:
        client = await join(here)
        client.say("one")
        client.say("mark blue")
        await settled()
        await trio.sleep(20)
        assert here.host._activations == {}
        assert client.taken() == ["welcome", "1:one"]
        client.say("again")
        client.say("mark?")
        await settled()
        assert client.got == ["1:again", "{'mark': 'blue'} None"]


async def test_messages_of_one_socket_arrive_in_order_while_the_object_wakes_up(autojump_clock):
    class Slow(Room):
        def __init__(self, ctx, env):
            super().__init__(ctx, env)
            ctx.blockConcurrencyWhile(self.prepare)

        async def prepare(self):
            await trio.sleep(1)
            self.ready = True

        async def webSocketMessage(self, ws, message):
            ws.send(f"{self.ready} {message}")

    async with world(Slow, idle_ms=1_000) as here:
        client = await join(here)
        await trio.sleep(10)
        for number in range(20):
            client.say(str(number))
        await trio.sleep(2)
        assert client.got[1:] == [f"True {number}" for number in range(20)]


async def test_close_is_answered_before_the_handler_and_reported_to_it():
    async with world(Room) as here:
        client = await join(here)
        client.close_with(4000, "bye")
        await settled()
        assert client.got == ["welcome", (4000, "bye")]
        assert await here.call("red", "stored", "closed") == [4000, "bye", True, 3]
        assert await here.call("red", "sockets") == []


async def test_before_the_compatibility_date_the_handler_answers_the_close():
    async with world(Room, auto_reply=False) as here:
        client = await join(here)
        client.close_with(4000, "bye")
        await settled()
        assert client.got == ["welcome", (4000, "bye")]
        assert await here.call("red", "stored", "closed") == [4000, "bye", True, 2]


async def test_message_before_a_close_can_still_be_answered():
    async with world(Room) as here:
        client = await join(here)
        client.say("last words")
        client.close_with(1000)
        await settled()
        assert client.got == ["welcome", "1:last words", (1000, "")]


async def test_lost_connection_is_a_close_with_1006_that_is_not_clean():
    async with world(Room) as here:
        client = await join(here)
        client.leave()
        await settled()
        closed = await here.call("red", "stored", "closed")
        assert closed == [1006, "WebSocket disconnected without sending Close frame.", False, 3]
        assert client.got == ["welcome"]


async def test_breach_of_the_protocol_reaches_the_error_handler():
    async with world(Room) as here:
        client = await join(here)
        client.leave("Invalid opcode 0x3")
        await settled()
        assert await here.call("red", "stored", "error") == "Error: Invalid opcode 0x3"
        assert await here.call("red", "stored", "closed") is None


async def test_failing_handler_is_logged_and_the_socket_lives_on():
    async with world(Room) as here:
        client = await join(here)
        client.say("fail")
        client.say("still here")
        await settled()
        assert client.got == ["welcome", "2:still here"]
        assert "KeyError" in here.events.errors[0]


async def test_reset_of_the_object_cuts_its_sockets_off():
    async with world(Room) as here:
        client, other = await join(here), await join(here, "blue")
        client.say("die")
        await settled()
        assert client.got == ["welcome", "aborted"]
        assert await here.call("red", "sockets") == []
        assert other.got == ["welcome"]
        assert await here.call("blue", "sockets") == [[]]


async def test_sockets_are_found_by_tag():
    async with world(Room) as here:
        await join(here, query="a,b,a")
        client = await join(here, query="b")
        assert await here.call("red", "sockets") == [["a", "b"], ["b"]]
        assert await here.call("red", "sockets", "b") == [["a", "b"], ["b"]]
        assert await here.call("red", "sockets", "a") == [["a", "b"]]
        assert await here.call("red", "sockets", "c") == []
        client.leave()
        await settled()
        assert await here.call("red", "sockets", "b") == [["a", "b"]]


async def test_automatic_response_wakes_nobody(autojump_clock):
    async with world(Room, idle_ms=1_000) as here:
        client = await join(here)
        await here.call("red", "answer_pings")
        assert await here.call("red", "answers") == ["ping", [None]]
        await trio.sleep(10)
        ended = len(here.events.ended)
        client.say("ping")
        assert client.got == ["welcome", "pong"]
        assert client.unhandled == 0
        assert here.host._activations == {}
        assert len(here.events.ended) == ended
        _, (answered_ms,) = await here.call("red", "answers")
        assert answered_ms > 1_700_000_000_000
        client.say(b"ping")
        await settled()
        assert client.got[-1] == b"gnip"


async def test_send_waits_for_the_writes_before_it():
    class Bank(Room):
        async def webSocketMessage(self, ws, message):
            ws.send("before")
            self.ctx.storage.put("balance", 5)
            ws.send("paid")
            ws.send("in full")

    store = MemoryStore(manual=True)
    async with world(Bank, store=store) as here:
        client = await join(here)
        client.say("pay")
        await settled()
        assert client.got == ["welcome", "before"]
        store.commit_group()
        await settled()
        assert client.got == ["welcome", "before", "paid", "in full"]


async def test_event_timeout_cancels_a_handler(autojump_clock):
    class Stuck(Room):
        async def webSocketMessage(self, ws, message):
            self.ctx.setHibernatableWebSocketEventTimeout(2_000)
            if message == "wait":
                await trio.sleep_forever()
            ws.send(str(self.ctx.getHibernatableWebSocketEventTimeout()))

    async with world(Stuck) as here:
        client = await join(here)
        client.say("set")
        client.say("wait")
        await trio.sleep(5)
        assert client.got == ["welcome", "2000"]
        assert here.events.ended[-1] == ("Stuck.webSocketMessage", Outcome.CANCELED)
        client.say("set")
        await settled()
        assert client.got[-1] == "2000"


async def test_class_without_handlers_ignores_its_sockets():
    class Deaf(DurableObject):
        fetch = Room.fetch

    async with world(Deaf) as here:
        client = await join(here)
        client.say("anyone?")
        client.close_with(1000)
        await settled()
        assert client.got == ["welcome", (1000, "")]


async def test_many_sockets_of_one_object_leave_nothing_behind():
    async with world(Room) as here:
        clients = [await join(here, query=f"t{number % 7}") for number in range(100)]
        for client in clients:
            client.leave()
        await settled()
        assert await here.call("red", "sockets") == []
        assert [await here.call("red", "sockets", f"t{number}") for number in range(7)] == [[]] * 7


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        ("accepted", "Cannot call `acceptWebSocket()` if the WebSocket was already accepted via `accept()`"),
        (
            "twice",
            "Cannot call `acceptWebSocket()` on this WebSocket because its pair has already been accepted or used "
            "in a Response.",
        ),
        ("tags", "a Hibernatable WebSocket cannot have more than 10 tags"),
        ("long", "is longer than the max tag length (256 characters)."),
        ("attachment", "A WebSocket 'attachment' cannot be larger than 16384 bytes."),
        ("timeout", "Event timeout should not exceed 604800000 ms."),
        ("plain tags", "only hibernatable websockets can have tags."),
        ("free tags", "you must call 'acceptWebSocket()' before attempting to access the tags of a WebSocket."),
    ],
)
async def test_misuse_is_refused_in_cloudflares_words(misuse, message):
    class Careless(DurableObject):
        def do(self, misuse):
            client, server = WebSocketPair.new()
            if misuse == "accepted":
                server.accept()
                self.ctx.acceptWebSocket(server)
            elif misuse == "twice":
                self.ctx.acceptWebSocket(server)
                self.ctx.acceptWebSocket(client)
            elif misuse == "tags":
                self.ctx.acceptWebSocket(server, [str(number) for number in range(11)])
            elif misuse == "long":
                self.ctx.acceptWebSocket(server, ["x" * 257])
            elif misuse == "attachment":
                server.serializeAttachment("x" * 16_400)
            elif misuse == "timeout":
                self.ctx.setHibernatableWebSocketEventTimeout(604_800_001)
            elif misuse == "plain tags":
                server.accept()
                self.ctx.getTags(server)
            elif misuse == "free tags":
                self.ctx.getTags(server)

    async with world(Careless) as here:
        with pytest.raises(JsException) as caught:
            await here.call("red", "do", misuse)
        assert message in str(caught.value)


async def test_too_long_automatic_response_is_a_value_error():
    class Careless(DurableObject):
        def do(self):
            self.ctx.setWebSocketAutoResponse(WebSocketRequestResponsePair("x" * 2049, "y"))

    async with world(Careless) as here:
        with pytest.raises(ValueError, match=r"Request cannot be larger than 2048 bytes\. A request of size 2049 was"):
            await here.call("red", "do")
