"""One instance at a time that is large in one way: /steps?n=N, /events?n=N, /results?n=N create it, /status waits."""

import time
from urllib.parse import parse_qs, urlsplit

from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

RESULT = 1024 * 1024 - 64
KINDS = {"/steps": "STEPS", "/events": "EVENTS", "/results": "RESULTS"}


async def nothing():
    return None


class ManySteps(WorkflowEntrypoint):
    async def run(self, event, step):
        for _ in range(event["payload"]["n"]):
            await step.do("step", nothing)
        await step.wait_for_event("rest", "go")
        await step.do("last", nothing)


class ManyEvents(WorkflowEntrypoint):
    async def run(self, event, step):
        await step.wait_for_event("rest", "go")
        for number in range(event["payload"]["n"]):
            got = await step.wait_for_event("number", "number")
            assert got["payload"] == number, (got, number)


class LargeResults(WorkflowEntrypoint):
    async def run(self, event, step):
        for _ in range(event["payload"]["n"]):
            await step.do("large", lambda: b"x" * RESULT)
        await step.wait_for_event("rest", "go")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        asked = {name: value[0] for name, value in parse_qs(url.query).items()}
        started_s = time.perf_counter()
        if url.path == "/go":
            instance = await getattr(self.env, asked["kind"]).get("one")
            await instance.send_event({"type": "go", "payload": None})
        elif url.path == "/status":
            status = await (await getattr(self.env, asked["kind"]).get("one")).status()
            return Response.json({"status": status["status"], "error": status["error"]})
        else:
            flow = getattr(self.env, KINDS[url.path])
            instance = await flow.create(id="one", params={"n": int(asked["n"])})
            if url.path == "/events":
                sent = [instance.send_event({"type": "number", "payload": n}) for n in range(int(asked["n"]))]
                for each in sent:
                    await each
        return Response.json({"elapsed_s": time.perf_counter() - started_s})
