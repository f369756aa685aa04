import time
from urllib.parse import parse_qs, urlsplit

import trio
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint


class Run:
    """One measurement: how many instances are to end, and how long that took."""

    def __init__(self, count):
        self.left = count
        self.over = trio.Event()


run = Run(0)


async def nothing():
    return None


class Steps(WorkflowEntrypoint):
    async def run(self, event, step):
        for number in range(event.payload["steps"]):
            await step.do(f"step {number}", nothing)
        run.left -= 1
        if not run.left:
            run.over.set()


class Sleeper(WorkflowEntrypoint):
    async def run(self, event, step):
        await step.sleep("night", "8 hours")


class Slow(WorkflowEntrypoint):
    async def run(self, event, step):
        async def work():
            await trio.sleep(event.payload["work_ms"] / 1000)

        for number in range(event.payload["steps"]):
            await step.do(f"step {number}", work)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        global run
        url = urlsplit(request.url)
        asked = {name: int(value[0]) for name, value in parse_qs(url.query).items()}
        cpu_s, started_s = time.process_time(), time.perf_counter()
        if url.path == "/steps":
            run = Run(asked["n"])
            await self.env.STEPS.create_batch([{"params": {"steps": asked["steps"]}} for _ in range(asked["n"])])
            await run.over.wait()
        elif url.path == "/slow":
            params = {"steps": asked["steps"], "work_ms": asked["work_ms"]}
            for _ in range(asked["n"] // 100):
                await self.env.SLOW.create_batch([{"params": params} for _ in range(100)])
        else:
            for _ in range(asked["n"] // 100):
                await self.env.SLEEPERS.create_batch([{} for _ in range(100)])
        return Response.json({"cpu_s": time.process_time() - cpu_s, "elapsed_s": time.perf_counter() - started_s})
