"""Requests to another server, work that outlives the response, many bindings at once; as scripts do it."""

import asyncio
import json
from http import HTTPMethod
from urllib.parse import urlsplit

import js
import trio
import workers
from workers import FormData, Request, Response, WorkerEntrypoint, env, fetch, waitUntil

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
BACKEND = env.BACKEND
started = []


async def gather(*works):
    if not IS_TRIO:
        return await asyncio.gather(*works)
    results = [None] * len(works)

    async def run(place, work):
        results[place] = await work

    async with trio.open_nursery() as nursery:
        for place, work in enumerate(works):
            nursery.start_soon(run, place, work)
    return results


async def pieces():
    for number in range(4):
        yield f"{number};"
        await pause(0.01)


async def methods():
    answers = [
        await fetch(f"{BACKEND}/echo"),
        await fetch(f"{BACKEND}/echo", method="POST", body="text", headers={"x-int": 3}),
        await fetch(f"{BACKEND}/echo", method=HTTPMethod.PUT, body=b"\x00bytes"),
        await fetch(Request(f"{BACKEND}/echo", method="PATCH", body=FormData({"a": "b"}))),
        await fetch(f"{BACKEND}/echo", method="POST", body=pieces()),
        await fetch(f"{BACKEND}/echo", method="POST", body=js.URLSearchParams.new({"q": "a b"})),
        await js.fetch(f"{BACKEND}/echo", {"method": "DELETE"}),
    ]
    return Response.json([await answer.json() for answer in answers])


async def properties():
    answer = await fetch(f"{BACKEND}/head")
    cookies = answer.headers.get_all("set-cookie")
    return Response.json(
        [answer.status, answer.ok, answer.status_text, answer.headers["X-Two"], cookies, await answer.text()]
    )


async def streamed():
    answer = await fetch(f"{BACKEND}/slow")
    return Response.json([bytes(piece).decode() async for piece in answer.body])


async def redirects():
    found = []
    for mode in ("follow", "manual", "error"):
        try:
            answer = await fetch(f"{BACKEND}/redirect", redirect=mode)
            found.append([answer.status, answer.redirected, answer.url.removeprefix(BACKEND), await answer.text()])
        except OSError as error:
            found.append("OSError: " + str(error).replace(BACKEND, ""))
    answer = await fetch(f"{BACKEND}/redirect", method="POST", body="gone")
    found.append(await answer.text())
    try:
        await fetch(f"{BACKEND}/loop")
    except OSError as error:
        found.append(str(error))
    return Response.json(found)


async def errors():
    found = []
    for url in ("http://127.0.0.1:1/", "nonsense", "http://bücher.invalid/", f"{BACKEND}/cut", "ftp://x/"):
        try:
            answer = await fetch(url)
            await answer.text()
            found.append("answered")
        except OSError:
            found.append("OSError")
    try:
        fetch("http://a/", {"method": "POST"})
    except TypeError as error:
        found.append(str(error))
    return Response.json(found)


async def timeout():
    """Give up after 50 ms; the other server sees that the connection is closed."""
    if IS_TRIO:
        with trio.move_on_after(0.05) as scope:
            await fetch(f"{BACKEND}/never")
        return Response.json(scope.cancelled_caught)
    try:
        async with asyncio.timeout(0.05):
            await fetch(f"{BACKEND}/never")
    except TimeoutError:
        return Response.json(True)


async def wait_for():
    try:
        await asyncio.wait_for(fetch(f"{BACKEND}/never"), 0.05)
    except TimeoutError:
        return Response.json(True)


async def aborted():
    try:
        await fetch(f"{BACKEND}/never", signal=js.AbortSignal.timeout(50))
    except Exception as error:
        return Response.json([isinstance(error, OSError) or type(error).__name__, str(error)])


async def proxied(request):
    return await fetch(f"{BACKEND}/echo", method=request.method, body=request.body, headers={"x-via": "worker"})


async def later(worker, note):
    await pause(0.1)
    await worker.env.KV.put("later", note)


async def failing():
    await pause(0.01)
    raise LookupError("failed after the response")


def wait_until(worker, what):
    match what:
        case "method":
            worker.ctx.waitUntil(later(worker, what))
        case "function":
            waitUntil(later(worker, what))
        case "task":
            worker.ctx.waitUntil(asyncio.create_task(later(worker, what)))
        case "promise":
            worker.ctx.waitUntil(worker.env.KV.put("later", what))
        case "failing":
            worker.ctx.waitUntil(failing())
            worker.ctx.waitUntil(later(worker, what))
    return Response("at once")


async def together(worker):
    kv = worker.env.KV
    await gather(*(kv.put(f"many:{number}", str(number)) for number in range(20)))
    values = await gather(*(kv.get(f"many:{number}") for number in range(20)))
    counts = await gather(*(worker.env.COUNTER.getByName("together").add() for _ in range(20)))
    answers = await gather(*(fetch(f"{BACKEND}/echo") for _ in range(10)))
    return Response.json([values, sorted(counts), [answer.status for answer in answers]])


async def tasks(worker):
    """A task that runs while the handler does something else."""
    if IS_TRIO:
        found = []

        async def read():
            found.append(await worker.env.KV.get("many:3"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await pause(0.01)
        return Response.json(found)
    task = asyncio.create_task(read_three(worker))
    await asyncio.sleep(0.01)
    return Response.json([await task])


async def read_three(worker):
    return await worker.env.KV.get("many:3")


class Counter(workers.DurableObject):
    async def add(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return count


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        action, _, what = urlsplit(request.url).path.strip("/").partition("/")
        match action:
            case "wait_until":
                return wait_until(self, what)
            case "later":
                return Response(await self.env.KV.get("later") or "")
            case "proxied":
                return await proxied(request)
            case "together":
                return await together(self)
            case "tasks":
                return await tasks(self)
            case "env":
                return Response(json.dumps([env.TABLE, self.env is env, env.TABLE["a"][0]]))
        return await globals()[action]()
