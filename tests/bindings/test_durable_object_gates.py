import pytest
import trio
from durable_object_world import world
from trio.testing import wait_all_tasks_blocked

from bindings.durable_objects.critical_section import BLOCKED_TOO_LONG
from edge_runtime.errors import ActorBroken
from edge_runtime.isolate.asyncio_flavour import open_asyncio_flavour
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.workers import DurableObject


class Gated(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.log = []
        self.ready = False
        ctx.blockConcurrencyWhile(self.prepare)

    async def prepare(self):
        await trio.sleep(5)
        self.ready = True

    def is_ready(self):
        return self.ready

    def add(self, text):
        self.log.append(text)

    def read_log(self):
        return self.log

    async def wait_and_add(self, seconds, text):
        await trio.sleep(seconds)
        self.log.append(text)

    async def block(self, seconds, text):
        async def section():
            self.log.append(f"{text} begins")
            await trio.sleep(seconds)
            self.log.append(f"{text} ends")
            return f"{text} done"

        result = await self.ctx.blockConcurrencyWhile(section)
        self.log.append(f"{text} left")
        return result

    async def nest(self):
        async def inner():
            await trio.sleep(1)
            return "inner"

        async def outer():
            return [await self.ctx.blockConcurrencyWhile(inner), await self.ctx.storage.get("nothing")]

        return await self.ctx.blockConcurrencyWhile(outer)

    async def fail_section(self):
        async def section():
            await trio.sleep(1)
            raise ValueError("section failed")

        await self.ctx.blockConcurrencyWhile(section)

    async def transfer(self, amount, fail):
        async def move(txn):
            await txn.put("a", (await txn.get("a") or 0) - amount)
            await trio.sleep(1)
            await txn.put("b", (await self.ctx.storage.get("b") or 0) + amount)
            if fail:
                raise KeyError("no")
            return "moved"

        return await self.ctx.storage.transaction(move)

    async def balances(self):
        return await self.ctx.storage.list()

    async def call_block_with(self, what):
        await self.ctx.blockConcurrencyWhile({"coroutine": None, "number": 3}[what])


async def test_events_wait_for_the_constructors_critical_section(autojump_clock):
    async with world(Gated) as w:
        assert await w.call("a", "is_ready") is True


async def test_events_and_results_wait_while_a_critical_section_runs(autojump_clock):
    async with world(Gated) as w:

        async def script():
            stub = w.ns["Gated"].getByName("a")
            await stub.is_ready()
            sleeping = stub.wait_and_add(2, "slept")
            await trio.sleep(1)
            blocking = stub.block(10, "section")
            added = stub.add("called")
            assert await blocking == "section done"
            await added
            await sleeping
            return await stub.read_log()

        log = await w.run(script)
        assert log[:2] == ["section begins", "section ends"]
        assert sorted(log[2:]) == ["called", "section left", "slept"]


async def test_critical_sections_run_one_after_the_other(autojump_clock):
    async with world(Gated) as w:

        async def script():
            stub = w.ns["Gated"].getByName("a")
            await stub.is_ready()
            first, second = stub.block(1, "one"), stub.block(1, "two")
            await first
            await second
            return await stub.read_log()

        log = [line for line in await w.run(script) if "left" not in line]
        assert log == ["one begins", "one ends", "two begins", "two ends"]


async def test_critical_sections_nest(autojump_clock):
    async with world(Gated) as w:
        assert await w.call("a", "nest") == ["inner", None]


async def test_a_failing_critical_section_resets_the_object(autojump_clock):
    async with world(Gated) as w:

        async def script():
            stub = w.ns["Gated"].getByName("a")
            await stub.add("kept in memory only")
            failing, queued = stub.fail_section(), stub.add("never")
            for promise in (failing, queued):
                with pytest.raises(ValueError, match="section failed"):
                    await promise
            return await w.ns["Gated"].getByName("a").read_log()

        assert await w.run(script) == []


async def test_a_critical_section_that_takes_too_long_resets_the_object(autojump_clock):
    async with world(Gated) as w:
        with pytest.raises(ActorBroken, match="waited for too long") as broken:
            await w.call("a", "block", 100, "long")
        assert str(broken.value) == BLOCKED_TOO_LONG
        assert broken.value.overloaded
        assert await w.call("a", "read_log") == []


async def test_release_ends_a_critical_section_and_what_waits_for_it(autojump_clock):
    async with world(Gated) as w:

        async def script():
            stub = w.ns["Gated"].getByName("a")
            await stub.is_ready()
            sleeping = stub.wait_and_add(1, "slept")
            blocking = stub.block(20, "section")
            await trio.sleep(3)
            start = trio.current_time()
            await w.host.release()
            for promise in (sleeping, blocking):
                with pytest.raises(ActorBroken):
                    await promise
            return trio.current_time() - start

        assert await w.run(script) < 1


async def test_block_concurrency_while_takes_functions_only(autojump_clock):
    async with world(Gated) as w:
        with pytest.raises(TypeError, match="takes an async function, not int"):
            await w.call("a", "call_block_with", "number")


async def test_a_transaction_is_atomic_and_a_failed_one_leaves_nothing(autojump_clock):
    async with world(Gated) as w:

        async def script():
            stub = w.ns["Gated"].getByName("a")
            moving = stub.transfer(5, False)
            seen = stub.balances()
            assert await moving == "moved"
            assert await seen == {"a": -5, "b": 5}
            with pytest.raises(Exception, match="no") as raised:
                await stub.transfer(5, True)
            assert not isinstance(raised.value, ActorBroken)
            return await stub.balances()

        assert await w.run(script) == {"a": -5, "b": 5}


async def test_a_transaction_commits_in_one_batch(autojump_clock):
    store = MemoryStore(manual=True)
    async with world(Gated, store=store) as w, trio.open_nursery() as nursery:
        nursery.start_soon(w.call, "a", "transfer", 5, False)
        await trio.sleep(10)
        assert store.queued == 1
        store.commit_group()
        await wait_all_tasks_blocked()


class AsyncioObject(DurableObject):
    def __init__(self, ctx, env):
        import asyncio

        super().__init__(ctx, env)
        self.log = []
        self.blocked = asyncio.Event()

    async def wait_and_add(self, text):
        import asyncio

        await self.blocked.wait()
        await asyncio.sleep(0.01)
        self.log.append(text)

    async def block(self):
        import asyncio

        async def section():
            self.blocked.set()
            await asyncio.sleep(0.05)
            self.log.append("section")

        await self.ctx.blockConcurrencyWhile(section)
        return self.log

    async def many(self):
        import asyncio

        await asyncio.gather(*(self.ctx.storage.put(f"k{n}", n) for n in range(3)))
        return len(await asyncio.create_task(self.ctx.storage.list()))

    async def stop(self):
        self.ctx.abort("stopped")


async def test_gates_hold_in_scripts_of_asyncio_flavour():
    async with open_asyncio_flavour() as flavour, world(AsyncioObject, flavour=flavour) as w:

        async def script():
            stub = w.ns["AsyncioObject"].getByName("a")
            sleeping, blocking = stub.wait_and_add("slept"), stub.block()
            await sleeping
            return await blocking

        assert (await w.run(script))[0] == "section"
        assert await w.call("b", "many") == 3
        with pytest.raises(ActorBroken, match="stopped"):
            await w.call("b", "stop")
