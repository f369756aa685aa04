"""What outlives a request, what ends with it, and what handlers of one isolate share."""

import asyncio
from urllib.parse import urlsplit

import trio
from workers import DurableObject, Response, WorkerEntrypoint, env

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
Cancelled = trio.Cancelled if IS_TRIO else asyncio.CancelledError
at_import = asyncio.Lock()
shared = {"requests": 0, "met": 0}


async def hanging(worker):
    worker.ctx.waitUntil(note_later(worker, "kept on"))
    print("handler hangs")
    try:
        await pause(60)
    except Cancelled:
        print("handler was cancelled")
        raise


async def note_later(worker, text):
    await pause(0.2)
    await worker.env.KV.put("note", text)


async def meet(guests):
    """Return once so many requests are here."""
    shared["met"] += 1
    while shared["met"] < guests:
        await pause(0.01)


async def endless():
    try:
        while True:
            yield b"x" * 65536
            await pause(0)
    finally:
        print("generator was closed")


async def read_later(worker, request):
    try:
        text = await request.text()
    except Exception as error:
        text = f"{type(error).__name__}"
    await worker.env.KV.put("read", text)


async def asyncio_things(worker):
    async with at_import:
        pass
    queue, event, results = asyncio.Queue(1), asyncio.Event(), []

    async def produce():
        for number in range(3):
            await queue.put(number)
        event.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while not event.is_set() or not queue.empty():
            results.append(await queue.get())
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            group.create_task(asyncio.sleep(60))
    except* ValueError as errors:
        results.append(str(errors.exceptions[0]))
    results.append(await asyncio.wait_for(worker.env.KV.get("nothing"), 5))
    results.append(await asyncio.to_thread(lambda: "thread"))
    results.append(await asyncio.shield(worker.env.ACTOR.getByName("one").ping()))
    done, _ = await asyncio.wait([asyncio.ensure_future(worker.env.ACTOR.getByName("two").ping())])
    results.append([task.result() for task in done])
    results.extend([first async for first in as_completed(worker)])
    return Response.json(results)


async def as_completed(worker):
    for next_done in asyncio.as_completed([worker.env.ACTOR.getByName("one").ping(), asyncio.sleep(0.01, "slept")]):
        yield await next_done


async def failing():
    raise ValueError("failed in the group")


async def trio_things(worker):
    results = []
    send, receive = trio.open_memory_channel(0)

    async def produce():
        async with send:
            for number in range(3):
                await send.send(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        results.extend([number async for number in receive])
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing)
            nursery.start_soon(trio.sleep, 60)
    except* ValueError as errors:
        results.append(str(errors.exceptions[0]))
    with trio.fail_after(5):
        results.append(await worker.env.KV.get("nothing"))
    results.append(await trio.to_thread.run_sync(lambda: "thread"))
    results.append(await worker.env.ACTOR.getByName("one").ping())
    results.append(trio.from_thread is not None)
    return Response.json(results)


class Actor(DurableObject):
    async def ping(self):
        await pause(0.01)
        return "pong"

    async def chain(self, depth):
        """Objects that call one another, each waiting for the next."""
        if depth == 0:
            return [self.ctx.id.name]
        return [self.ctx.id.name, *await self.env.ACTOR.getByName(f"chain {depth - 1}").chain(depth - 1)]

    async def fetch(self, request):
        async def body():
            for number in range(3):
                yield f"{number};"
                await pause(0.01)

        return Response(body(), headers={"x-read": await request.text()})

    async def background(self):
        self.ctx.waitUntil(self.later())
        return "at once"

    async def later(self):
        await pause(0.1)
        await self.ctx.storage.put("later", "done")

    async def stored(self):
        return await self.ctx.storage.get("later")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        shared["requests"] += 1
        actor = self.env.ACTOR
        match urlsplit(request.url).path.strip("/"):
            case "hang":
                await hanging(self)
            case "endless":
                return Response(endless())
            case "read_later":
                self.ctx.waitUntil(read_later(self, request))
            case "things":
                return await (trio_things if IS_TRIO else asyncio_things)(self)
            case "chain":
                return Response.json(await actor.getByName("chain 5").chain(5))
            case "through":
                return await actor.getByName("stream").fetch(request)
            case "background":
                return Response(await actor.getByName("background").background())
            case "stored":
                return Response.json(await actor.getByName("background").stored())
            case "note" | "read" as key:
                return Response(await self.env.KV.get(key) or "")
            case "meet":
                await meet(10)
        return Response(str(shared["requests"]))
