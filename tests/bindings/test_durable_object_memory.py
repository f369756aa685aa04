"""Objects that are idle leave nothing behind in memory."""

import gc
import sys

import trio
from durable_object_world import world

from edge_runtime.actors.api import ActorKind
from edge_runtime.limits import ACTOR_WAVE, OBJECT_NAMES_KEPT
from edge_runtime.memory import give_back
from edge_runtime.workers import DurableObject

OBJECTS = 10_000
KEPT_MAX = OBJECTS // 20
"""Python objects; a Durable Object in memory has dozens."""


class Reader(DurableObject):
    async def read(self):
        return await self.ctx.storage.get("value")


def touching(w, prefix):
    async def touch(first, count):
        promises = [w.ns["Reader"].getByName(f"{prefix}{number}").read() for number in range(first, first + count)]
        for promise in promises:
            await promise

    return touch


def python_objects(w):
    w.events.ended.clear()
    return len(gc.get_objects())


async def test_ten_thousand_idle_objects_leave_nothing_in_memory(autojump_clock):
    async with world(Reader, idle_ms=1000) as w:
        # No object was ever touched before, so nothing that is remembered of objects is there already.
        give_back()
        before, blocks_before = python_objects(w), sys.getallocatedblocks()
        for first in range(0, OBJECTS, 500):
            await w.run(touching(w, "object "), first, 500)
        active = python_objects(w)
        await trio.sleep(10)
        assert w.host.in_memory(ActorKind.OBJECT, "Reader") == ()
        # Nobody collects or forgets anything here but the host itself.
        assert python_objects(w) - before < KEPT_MAX < active - before
        assert sys.getallocatedblocks() - blocks_before < KEPT_MAX


async def test_what_is_remembered_of_objects_has_a_bound_and_is_forgotten_after_a_wave_of_them(autojump_clock):
    async with world(Reader, idle_ms=1000) as w:
        ids = w.ns["Reader"]
        give_back()
        first = ids.idFromName("first")
        assert ids.idFromName("first") is first
        for number in range(OBJECT_NAMES_KEPT):
            ids.idFromName(f"other {number}")
        assert ids.idFromName("first") is not first  # it made room
        last = ids.idFromName("last")
        await w.run(touching(w, "object "), 0, ACTOR_WAVE)
        await trio.sleep(10)
        assert ids.idFromName("last") == last
        assert ids.idFromName("last") is not last
