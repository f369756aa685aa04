"""Sync methods of Durable Objects that wait by `run_sync`, as Cloudflare's own tests of Python do."""

import asyncio
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
import trio
import trio.testing
from durable_object_world import world
from edge_process import PATIENCE_S

from edge_runtime.compat.blocking import run_sync
from edge_runtime.errors import ActorBroken
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.workers import DurableObject

noted = ContextVar("noted", default="nothing")


class Waiting(DurableObject):
    sleep = staticmethod(trio.sleep)

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.arrived = []

    def plus_one(self, number):
        noted.set(number)
        run_sync(self.sleep(0.01))
        run_sync(self.sleep(0))
        assert noted.get() == number
        return number + 1

    def count(self):
        number = (run_sync(self.ctx.storage.get("count")) or 0) + 1
        run_sync(self.ctx.storage.put("count", number))
        return number

    def wait_for(self, other):
        self.arrived.append("waits")
        while other not in self.arrived:
            run_sync(self.sleep(0.001))
        return self.arrived

    def arrive(self, name):
        self.arrived.append(name)

    def fail(self):
        try:
            run_sync(self.raises())
        except KeyError as error:
            raise ValueError(f"was {error}") from None

    async def raises(self):
        await self.sleep(0)
        raise KeyError("within")

    def later(self):
        run_sync(self.sleep(0))
        return self.plus_two(5)

    async def plus_two(self, number):
        await self.sleep(0)
        return number + 2

    def for_ever(self):
        try:
            run_sync(self.sleep(1000))
        finally:
            self.arrived.append("ended")

    async def reset(self):
        self.ctx.abort("enough")


class WaitingOnAsyncio(Waiting):
    sleep = staticmethod(asyncio.sleep)


@asynccontextmanager
async def waiting(flavour):
    if flavour == "trio":
        async with world(Waiting) as w:
            yield w
        return
    async with open_asyncio_flavour() as made, world(WaitingOnAsyncio, flavour=made) as w:
        yield w


@pytest.fixture(params=["trio", "asyncio"])
async def w(request):
    with trio.fail_after(PATIENCE_S):
        async with waiting(request.param) as made:
            yield made


async def test_a_sync_method_waits_and_goes_on(w):
    assert await w.call("a", "plus_one", 9) == 10
    assert [await w.call("a", "count") for _ in range(3)] == [1, 2, 3]
    assert await w.call("a", "later") == 7


async def test_errors_are_raised_where_it_waits(w):
    with pytest.raises(ValueError, match="was 'within'"):
        await w.call("a", "fail")


async def test_other_events_run_meanwhile(w):
    found = []

    async def wait():
        found.append(list(await w.call("a", "wait_for", "other")))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await w.call("a", "arrive", "other")
    assert sorted(found[0]) == ["other", "waits"]


async def test_many_wait_at_the_same_time(w):
    found = []

    async def call(number):
        found.append(await w.call("a", "plus_one", number))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(call, number)
    assert sorted(found) == list(range(1, 51))


async def test_a_reset_ends_what_waits(w):
    async with trio.open_nursery() as nursery:

        async def wait():
            with pytest.raises(ActorBroken, match="enough"):
                await w.call("a", "for_ever")

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(ActorBroken, match="enough"):
            await w.call("a", "reset")
    assert await w.call("a", "plus_one", 1) == 2
