"""Hello, and workflow steps, in an isolate whose meter can be turned off: then nothing is measured or stopped."""

import signal
from collections.abc import Awaitable, Coroutine
from types import CoroutineType

import trio
from trio._core import _traps
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

from edge_runtime import event
from edge_runtime.isolate.events import cpu_guard
from edge_runtime.metering import measure


async def call(meter, fn, args):
    result = fn(*args)
    if type(result) is not CoroutineType and not isinstance(result, Coroutine):
        return await result if isinstance(result, Awaitable) else result
    return await result


class NoMeter:
    """In the place of `metering.loop_thread`, for what is not an event's own call."""

    charged = None

    def begin(self, meter):
        return None

    def end(self, outer):
        pass


METERS = {
    "on": (event.metered_call, measure.loop_thread, _traps._async_yield),
    "off": (call, NoMeter(), _traps._real_async_yield),
}


def turn(meter):
    event.metered_call, measure.loop_thread, _traps._async_yield = METERS[meter]
    if meter == "on":
        signal.signal(signal.SIGPROF, cpu_guard._tick)
    else:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)


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
        if path in METERS:
            turn(path)
            return Response(path)
        instances, steps = map(int, path.split("x"))
        Run.left, Run.over = instances, trio.Event()
        await self.env.STEPS.create_batch([{"params": {"steps": steps}} for _ in range(instances)])
        await Run.over.wait()
        return Response("done")
