"""WebSockets that an object accepted without hibernation, and sockets between objects."""

import gc

import trio
from durable_object_world import world
from socket_rooms import Room, join, settled

from edge_runtime.event import Outcome
from edge_runtime.workers.entrypoints import DurableObject
from edge_runtime.workers.response import Response
from edge_runtime.workers.websocket_pair import WebSocketPair


class Plain(DurableObject):
    async def fetch(self, request):
        client, server = WebSocketPair.new()
        server.accept()
        server.addEventListener("message", self.on_message)
        server.onclose = self.on_close
        self.closed = None
        return Response(None, status=101, web_socket=client)

    async def on_message(self, event):
        if event.data == "die":
            self.ctx.abort()
        event.target.send(event.data * 2)

    def on_close(self, event):
        self.closed = [event.code, event.reason, event.wasClean]

    def how(self):
        return self.closed


async def test_plain_socket_keeps_the_object_in_memory_until_it_closes(autojump_clock):
    async with world(Plain, idle_ms=1_000) as here:
        client = await join(here)
        await trio.sleep(100)
        client.say("ab")
        await settled()
        assert client.got == ["abab"]
        client.close_with(1001, "off")
        await settled()
        assert client.got[-1] == (1001, "off")
        assert await here.call("red", "how") == [1001, "off", True]
        assert ("Plain.fetch", Outcome.OK) in here.events.ended
        await trio.sleep(100)
        assert here.host._activations == {}


async def test_plain_socket_ends_with_its_object():
    async with world(Plain) as here:
        client = await join(here)
        client.say("die")
        await settled()
        assert client.got == ["aborted"]
        client.say("anyone?")
        await settled()
        assert client.unhandled == 0
        assert here.host._activations == {}


async def test_message_waits_at_the_input_gate():
    order = []

    class Gated(Plain):
        async def on_message(self, event):
            order.append(event.data)

        async def block(self):
            async def section():
                await settled(0.02)
                order.append("section over")

            await self.ctx.blockConcurrencyWhile(section)

    async with world(Gated) as here:
        client = await join(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(here.call, "red", "block")
            await settled()
            client.say("message")
        await settled()
        assert order == ["section over", "message"]


async def test_one_object_talks_to_another_over_a_socket():
    class Caller(DurableObject):
        async def ask(self, message):
            response = await self.env["Room"].getByName("red").fetch("http://room/")
            socket = response.web_socket
            got = []
            heard = trio.Event()

            def on_message(event):
                got.append(event.data)
                if len(got) == 2:
                    heard.set()

            socket.addEventListener("message", on_message)
            socket.accept()
            socket.send(message)
            await heard.wait()
            socket.close(1000, "thanks")
            return got

    async with world(Room, Caller) as here:
        assert await here.call("me", "ask", "hi", of="Caller") == ["welcome", "1:hi"]
        await settled()
        assert await here.call("red", "stored", "closed") == [1000, "thanks", True, 3]


async def test_dropped_response_with_a_socket_is_a_lost_connection():
    async with world(Room) as here:

        async def script():
            await here.ns["Room"].getByName("red").fetch("http://room/")

        await here.run(script)
        gc.collect()
        await settled()
        assert (await here.call("red", "stored", "closed"))[0] == 1006
