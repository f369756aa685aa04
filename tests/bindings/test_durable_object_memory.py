"""Objects that are idle leave nothing behind in memory."""

import gc

import trio
from durable_object_world import world

from edge_runtime.actors.api import ActorKind
from edge_runtime.workers import DurableObject

OBJECTS = 10_000
KEPT_MAX = OBJECTS // 20
"""Python objects; a Durable Object in memory has dozens."""


class Reader(DurableObject):
    async def read(self):
        return await self.ctx.storage.get("value")


async def test_ten_thousand_idle_objects_leave_nothing_in_memory(autojump_clock):
    async with world(Reader, idle_ms=1000) as w:

        async def touch(first, count):
            promises = [w.ns["Reader"].getByName(str(number)).read() for number in range(first, first + count)]
            for promise in promises:
                await promise

        def python_objects():
            w.events.ended.clear()
            gc.collect()
            return len(gc.get_objects())

        await w.run(touch, OBJECTS, 1500)  # what remembers a bounded number of names and keys is full
        await trio.sleep(10)
        before = python_objects()
        for first in range(0, OBJECTS, 500):
            await w.run(touch, first, 500)
        active = python_objects()
        await trio.sleep(10)
        assert w.host.in_memory(ActorKind.OBJECT, "Reader") == ()
        assert python_objects() - before < KEPT_MAX < active - before
