"""Two steps that a third one needs, then waits of each kind; a file outside of the store is witness of every attempt.

POST / creates an instance of each item of the JSON array that is sent: {"id", "params"}.
"""

import asyncio
import json
import os
import time

from workers import Response, WorkerEntrypoint, WorkflowEntrypoint

RETRY = {"retries": {"limit": 100, "delay": 20, "backoff": "constant"}}


class Graph(WorkflowEntrypoint):
    async def run(self, event, step):
        given, id = event["payload"], event["instanceId"]

        def note(name):
            """Append a line to the witness, whole or not at all."""
            line = json.dumps({"id": id, "step": f"{name}-1", "at_ms": time.time() * 1000})
            descriptor = os.open(self.env.WITNESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line.encode() + b"\n")
            finally:
                os.close(descriptor)

        @step.do("dependency 1", config=RETRY)
        async def first():
            note("dependency 1")
            await asyncio.sleep(given["first_ms"] / 1000)
            return 1

        @step.do("dependency 2", config=RETRY)
        async def second():
            note("dependency 2")
            await asyncio.sleep(given["second_ms"] / 1000)
            return 2

        @step.do("final step", depends=[first, second], concurrent=True, config=RETRY)
        async def summarize(res1=None, res2=None):
            note("final step")
            return [res1, res2]

        results = await summarize()
        await step.sleep("nap", given["nap_ms"])
        await step.do("after nap", RETRY, lambda: note("after nap"))
        await step.sleep_until("instant", given["until_ms"])
        await step.do("after instant", RETRY, lambda: note("after instant"))
        try:
            await step.wait_for_event("never", "never", timeout=given["wait_ms"])
        except Exception as error:
            results.append(error.name)
        await step.do("after wait", RETRY, lambda: note("after wait"))
        return results


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        made = await self.env.GRAPHS.create_batch(json.loads(await request.text()))
        return Response.json([instance.id for instance in made])
