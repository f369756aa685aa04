"""A little of everything that uses CPU time: loops, tasks, threads, processes, objects, steps, KV."""

import subprocess
import sys
import threading
import time

import trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

BURN_NS = 2_000_000


def burn():
    before_ns = time.thread_time_ns()
    while time.thread_time_ns() - before_ns < BURN_NS:
        pass


class Counter(DurableObject):
    async def increment(self):
        value = (await self.ctx.storage.get("value") or 0) + 1
        await self.ctx.storage.put("value", value)
        burn()
        return value


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        @step.do("waits")
        async def waits():
            await trio.sleep(0.001)
            burn()

        @step.do("blocks")
        def blocks():
            burn()

        await waits()
        await blocks()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match request.url.rpartition("/")[2]:
            case "burn":
                burn()
            case "tasks":
                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(self.wait_and_burn)
            case "thread":
                await trio.to_thread.run_sync(burn)
            case "own-thread":
                threading.Thread(target=burn).start()
            case "process":
                await trio.to_thread.run_sync(subprocess.run, [sys.executable, "-I", "-S", "-c", "sum(range(100000))"])
            case "later":
                self.ctx.waitUntil(self.wait_and_burn())
            case "object":
                await self.env.COUNTERS.getByName("one").increment()
            case "kv":
                await self.env.KV.put("key", "x" * 1000)
                await self.env.KV.get("key")
            case "flow":
                await self.env.FLOW.create()
        return Response("Hello, world!")

    async def wait_and_burn(self):
        await trio.sleep(0.001)
        burn()
