"""Loops of known CPU time in every kind of handler; each reports what the thread's own clock said."""

import asyncio
import json
import threading
import time
from urllib.parse import urlsplit

import trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint, env

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
reported = {}


def burn(name, milliseconds):
    """Use the CPU; add what was used to `reported`."""
    begun = time.thread_time_ns()
    ends = begun + milliseconds * 1_000_000
    while time.thread_time_ns() < ends:
        pass
    reported[name] = reported.get(name, 0) + (time.thread_time_ns() - begun) // 1000


async def burn_in_slices(name, milliseconds):
    for _ in range(4):
        burn(name, milliseconds // 4)
        await pause(0.005)


async def children():
    if IS_TRIO:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(burn_in_slices, "children", 40)
    else:
        await asyncio.gather(*(asyncio.create_task(burn_in_slices("children", 40)) for _ in range(3)))


async def threads():
    run = trio.to_thread.run_sync if IS_TRIO else asyncio.to_thread
    await run(burn, "threads", 100)


async def later():
    await pause(0.01)
    burn("later", 80)


async def generated():
    for _ in range(4):
        burn("generated", 20)
        yield b"piece"
        await pause(0.005)


class Worker(DurableObject):
    async def work(self):
        burn("object", 100)
        await self.ctx.storage.put("worked", True)
        await pause(0.02)
        burn("object", 20)

    async def alarm(self):
        burn("alarm", 60)

    async def later(self):
        await self.ctx.storage.setAlarm(int(time.time() * 1000))


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        burn("run", 40)

        @step.do("async step")
        async def asynchronous():
            burn("async step", 80)
            await pause(0.02)
            burn("async step", 20)

        @step.do("sync step")
        def synchronous():
            assert threading.current_thread() is not threading.main_thread()
            burn("sync step", 100)

        await asynchronous()
        await synchronous()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        match urlsplit(request.url).path.strip("/"):
            case "loop":
                await burn_in_slices("loop", 120)
            case "children":
                await children()
            case "threads":
                await threads()
            case "later":
                self.ctx.waitUntil(later())
            case "generated":
                return Response(generated())
            case "object":
                await self.env.WORKER.getByName("one").work()
            case "alarm":
                await self.env.WORKER.getByName("one").later()
            case "flow":
                flow = await self.env.FLOW.create()
                while (await flow.status())["status"] not in ("complete", "errored"):
                    await pause(0.02)
            case "sleep":
                await pause(0.5)
        return Response(json.dumps(reported))
