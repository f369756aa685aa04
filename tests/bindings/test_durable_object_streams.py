"""Bodies that an object still sends after its handler has returned."""

import pytest
import trio
from durable_object_world import world

from edge_runtime.errors import ActorBroken
from edge_runtime.event import Outcome
from edge_runtime.workers import DurableObject, Response


class Streamer(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.more = trio.Event()

    async def fetch(self, request):
        async def pieces():
            yield b"one "
            await self.more.wait()
            self.ctx.storage.put("sent", 1)
            yield b"two"

        return Response(pieces(), headers={"content-type": "text/event-stream"})

    def push(self):
        self.more.set()


async def test_an_object_stays_in_memory_while_it_streams(autojump_clock):
    async with world(Streamer, idle_ms=1000) as w:
        pieces = []

        async def script():
            nonlocal pieces
            response = await w.ns["Streamer"].getByName("a").fetch("https://object/")
            async for piece in response.body:
                pieces += [bytes(piece)]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.run, script)
            await trio.sleep(30)
            assert pieces == [b"one "]
            await w.call("a", "push")
        assert pieces == [b"one ", b"two"]
        assert [name for name, _ in w.events.ended].count("Streamer.constructor") == 1
        assert ("Streamer.fetch", Outcome.OK) in w.events.ended
        await trio.sleep(5)
        assert w.host.active == 0
        assert w.events.open == 0


async def test_a_dropped_stream_does_not_keep_the_object(autojump_clock):
    async with world(Streamer, idle_ms=1000) as w:

        async def script():
            await w.ns["Streamer"].getByName("a").fetch("https://object/")

        await w.run(script)
        await trio.sleep(5)
        assert w.events.open == 0


async def test_release_cuts_streams_off(autojump_clock):
    async with world(Streamer) as w:
        sent = []

        async def script():
            return await w.ns["Streamer"].getByName("a").fetch("https://object/")

        response = await w.run(script)

        async def write(piece):
            sent.append(piece)

        async with trio.open_nursery() as nursery:

            async def send():
                with pytest.raises(ActorBroken):
                    await response._outgoing().body.write_to(write)

            nursery.start_soon(send)
            await trio.sleep(1)
            await w.host.release()
        assert sent == [b"one "]
