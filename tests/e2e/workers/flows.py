"""Workflows with steps of every form. What a body does is witnessed outside of the store, by lines of output."""

import asyncio
import json
import random
import time
from datetime import datetime, timedelta
from urllib.parse import unquote, urlsplit

import trio
from workers import Response, WorkerEntrypoint, WorkflowEntrypoint, env
from workers.workflows import NonRetryableError

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
FAST = {"retries": {"limit": 2, "delay": 10, "backoff": "constant"}}


def witness(event, what):
    print(f"did {event['instanceId']} {what}")


async def retried(event, step):
    @step.do("flaky", config=FAST)
    async def flaky(ctx):
        witness(event, f"attempt {ctx['attempt']} of {ctx['config']['retries']['limit']}")
        if ctx.attempt < 3:
            raise RuntimeError(f"attempt {ctx.attempt} failed")
        return ctx.attempt

    return await flaky()


async def exhausted(event, step):
    @step.do("never", config=FAST)
    async def never():
        witness(event, "never")
        raise ValueError("always fails")

    try:
        await never()
    except ValueError as error:
        caught = str(error)
    await step.do("boom", FAST, fail)
    return caught


async def fail():
    raise RuntimeError("not caught")


async def final(event, step):
    @step.do("final", config=FAST)
    async def once():
        witness(event, "final")
        raise NonRetryableError("no more")

    try:
        await once()
    except NonRetryableError:
        await step.do("after", lambda: witness(event, "after"))
        raise


async def slept(event, step):
    begun = await step.do("begun", lambda: time.time())
    await step.sleep("short", 300)
    first = await step.do("first", lambda: time.time())
    await step.sleep_until("until", datetime.now() + timedelta(seconds=0.4))
    await step.sleep_until("past", int((begun - 100) * 1000))
    await step.sleep("text", "1 second")
    return [first - begun >= 0.29, event.payload]


async def waits(event, step):
    early = await step.wait_for_event("early one", "first", timeout="1 minute")
    late = await step.wait_for_event("late one", {"type": "second", "timeout": 60_000})
    try:
        await step.wait_for_event("missing", "third", timeout=50)
    except Exception as error:
        missed = [getattr(error, "name", type(error).__name__), str(error)]
    return [early.payload, late["payload"], late["type"], missed]


async def slow(event, step):
    try:
        await step.do("slow", {"timeout": 50, "retries": {"limit": 1, "delay": 0}}, lambda: pause(60))
    except Exception as error:
        return [getattr(error, "name", type(error).__name__), str(error)]


async def conditional(event, step):
    wanted = event.payload.get("wanted", False)

    @step.do("chosen", when=wanted)
    async def chosen():
        witness(event, "chosen")
        return "ran"

    plain = await step.do("plain", lambda: "plain", when=lambda: not wanted)
    return [await chosen(), plain]


async def plain(event, step):
    async def with_ctx(ctx):
        return [ctx.step.name, ctx.step.count, ctx.attempt]

    def in_thread():
        time.sleep(0.01)
        return {"deep": [1, None, b"bytes"]}

    numbers = [await step.do("numbered", lambda number=number: number * 10) for number in range(3)]
    deep = await step.do("in thread", in_thread)
    return [await step.do("with ctx", with_ctx), numbers, deep.deep[0], type(deep.deep[2]).__name__]


async def too_large(event, step):
    await step.do("large", lambda: "x" * 2_000_000)


async def not_serialisable(event, step):
    await step.do("object", lambda: object())


async def graph(event, step):
    """As in Cloudflare's example: parameters with defaults, explicit dependencies, side by side."""

    @step.do("dependency 1")
    async def first():
        witness(event, "dependency 1")
        await pause(random.random() / 10)
        return 1

    @step.do("dependency 2", depends=[first])
    async def second(one):
        witness(event, "dependency 2")
        return one + 1

    @step.do("final step", depends=[first, second], concurrent=True)
    async def summarize(res1=None, res2=None):
        witness(event, "final step")
        return [res1, res2]

    return await summarize()


async def implicit(event, step):
    @step.do()
    async def base():
        witness(event, "base")
        return 5

    @step.do()
    async def left(base):
        return base + 1

    @step.do()
    async def right(base, ctx):
        return [base, ctx.step.name]

    @step.do("joined", concurrent=True)
    async def joined(left, right):
        return [left, right]

    return await joined()


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        return await globals()[event.payload["flow"]](event, step)


async def misuse(flow):
    async def refused(call):
        try:
            await call()
        except Exception as error:
            return str(error)

    await flow.create(id="taken", params={"flow": "plain"})
    batch = await flow.createBatch(
        [{"id": "taken", "params": {"flow": "plain"}}, {"id": "new", "params": {"flow": "plain"}}]
    )
    done = await flow.get("taken")
    while (await done.status())["status"] != "complete":
        await pause(0.02)
    return {
        "duplicate": await refused(lambda: flow.create(id="taken")),
        "bad id": await refused(lambda: flow.create({"id": "not good"})),
        "unknown": await refused(lambda: flow.get("unknown")),
        "empty": await refused(lambda: flow.create_batch([])),
        "many": await refused(lambda: flow.create_batch([{}] * 101)),
        "finished": await refused(lambda: done.sendEvent(type="x", payload=1)),
        "bad type": await refused(lambda: done.send_event({"type": "not good", "payload": 1})),
        "batch": [instance.id for instance in batch],
        "ids": len({(await flow.create(params={"flow": "plain"})).id for _ in range(3)}),
    }


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        action, *rest = urlsplit(request.url).path.strip("/").split("/")
        flow = self.env.FLOW
        match action:
            case "create":
                params = {"flow": rest[0], **(await request.json() if request.method == "POST" else {})}
                return Response((await flow.create({"params": params})).id)
            case "status":
                return Response.json(await (await flow.get(rest[0])).status())
            case "send":
                instance = await flow.get(rest[0])
                await instance.send_event({"type": rest[1], "payload": json.loads(unquote(rest[2]))})
                return Response("sent")
        return Response.json(await misuse(flow))
