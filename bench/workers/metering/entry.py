"""Hello, and workflow steps; with METER=off in an isolate that measures and stops nothing."""

import time

import trio
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint, env

if env.METER == "off":
    from collections.abc import Awaitable

    from edge_runtime import event
    from edge_runtime.isolate import boot
    from edge_runtime.metering import measure

    async def call(meter, fn, args):
        result = fn(*args)
        return await result if isinstance(result, Awaitable) else result

    event.metered_call = call
    measure._begin = lambda meter: None
    measure._end = lambda outer: None
    boot.guard_cpu = lambda: None


class Run:
    """One measurement: how many instances are to end, and the event of their end."""

    left = 0
    over = trio.Event()


async def nothing():
    return None


class Steps(WorkflowEntrypoint):
    async def run(self, event, step):
        for number in range(event.payload["steps"]):
            await step.do(f"step {number}", nothing)
        Run.left -= 1
        if not Run.left:
            Run.over.set()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        path = request.url.rpartition("/")[2]
        if not path:
            return Response("Hello, world!")
        instances, steps = map(int, path.split("x"))
        before_s = time.process_time()
        Run.left, Run.over = instances, trio.Event()
        await self.env.STEPS.create_batch([{"params": {"steps": steps}} for _ in range(instances)])
        await Run.over.wait()
        return Response.json({"cpu_s": time.process_time() - before_s})
