"""Durable Objects of every habit, and a handler that calls whatever the path names."""

import asyncio
import json
import os
import time
from datetime import datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import trio
from pyodide.ffi import to_js
from workers import DurableObject, Response, WorkerEntrypoint, env

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
constructed = {}


class Counter(DurableObject):
    """Reads, waits for something else than storage, writes: exact only where nothing comes in between."""

    async def add(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        await self.ctx.storage.put("count", count)
        return count

    async def add_blocked(self):
        async def critical():
            count = await self.ctx.storage.get("count") or 0
            await pause(0.001)
            await self.ctx.storage.put("count", count + 1)
            return count + 1

        return await self.ctx.blockConcurrencyWhile(critical)

    async def add_in_transaction(self, fail):
        async def closure(txn):
            count = await txn.get("count") or 0
            await txn.put("count", count + 1)
            await pause(0.001)
            if fail:
                raise LookupError("rolled back")

        await self.ctx.storage.transaction(closure)

    async def count(self):
        return await self.ctx.storage.get("count") or 0


class Loaded(DurableObject):
    """Loads its state in the constructor, with events held back."""

    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.loaded = None
        constructed[ctx.id.name] = constructed.get(ctx.id.name, 0) + 1
        ctx.blockConcurrencyWhile(self.load)

    async def load(self):
        await pause(0.02)
        self.loaded = await self.ctx.storage.get("kept") or "fresh"

    async def seen(self):
        return [self.loaded, constructed[self.ctx.id.name], os.getpid()]

    async def keep(self, value):
        await self.ctx.storage.put("kept", value)
        return await self.seen()

    async def abort(self, value):
        await self.ctx.storage.put("kept", value)
        await self.ctx.storage.sync()
        self.ctx.storage.put("kept", "never written")
        self.ctx.abort("given up")


class Failing(DurableObject):
    async def fail(self, kind):
        raise {"value": ValueError, "type": TypeError, "key": KeyError, "other": RuntimeError}[kind](f"a {kind} error")

    def plain(self, *args):
        return list(args)

    async def values(self, value):
        return [type(value).__name__, value]

    async def returns_tuple(self):
        return (1, 2)

    def _hidden(self):
        return "hidden"

    async def fetch(self, request):
        text = await request.text()
        return Response.json([request.method, urlsplit(request.url).path, text], status=201)


class Ordered(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.order = []

    async def note(self, number):
        self.order.append(number)
        await pause(0.001 * (number % 3))
        return number

    async def notes(self):
        return self.order


class Timed(DurableObject):
    async def plan(self, after_s, kind):
        moment = time.time() + after_s
        await self.ctx.storage.put("kind", kind)
        await self.ctx.storage.setAlarm(
            datetime.now() + timedelta(seconds=after_s) if kind == "date" else moment * 1000
        )
        return await self.ctx.storage.getAlarm()

    async def alarm(self, info):
        rung = await self.ctx.storage.get("rung") or []
        rung.append([info.retryCount, info.isRetry, await self.ctx.storage.getAlarm()])
        await self.ctx.storage.put("rung", rung)
        if await self.ctx.storage.get("kind") == "fails" and len(rung) == 1:
            raise RuntimeError("the alarm failed")

    async def plan_and_cancel(self, after_s):
        planned_ms = await self.plan(after_s, "number")
        await self.ctx.storage.deleteAlarm()
        return [planned_ms > 0, await self.ctx.storage.getAlarm()]

    async def rung(self):
        return await self.ctx.storage.get("rung") or []


class Stored(DurableObject):
    async def lists(self):
        storage = self.ctx.storage
        await storage.put({f"k{number}": number for number in range(6)})
        await storage.put("é", "last")
        await storage.put("deep", to_js({"list": [1, None, {"a": b"bytes"}], "set": [1]}))
        found = {
            "get": await storage.get(["k1", "k9", "k0"]),
            "prefix": [list(pair) for pair in (await storage.list(prefix="k")).items()],
            "range": list(await storage.list(start="k1", end="k3")),
            "after": list(await storage.list({"startAfter": "k1", "limit": 2})),
            "reverse": list(await storage.list(reverse=True, limit=2)),
            "all": list(await storage.list()),
            "deep": (await storage.get("deep")).list[0],
            "delete": [
                await storage.delete("k0"),
                await storage.delete("k0"),
                await storage.delete(["k1", "k2", "k9"]),
            ],
            "left": len(await storage.list()),
        }
        for options in ({"limit": 0}, {"start": "a", "startAfter": "b"}):
            try:
                await storage.list(options)
            except TypeError as error:
                found.setdefault("errors", []).append(str(error))
        for value in (("tuple",), "x" * 3_000_000):
            try:
                await storage.put("wrong", value)
            except Exception as error:
                found["errors"].append(f"{type(error).__name__}: {str(error)[:40]}")
        found["kept out"] = await storage.get("wrong")
        await storage.deleteAll()
        found["empty"] = len(await storage.list())
        return found


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


async def ordered(env):
    stub = env.ORDERED.getByName("one")
    calls = [stub.note(number) for number in range(30)]
    answers = await gather(*calls)
    return [answers, await stub.notes()]


async def broken(env):
    """After an abort: this call and the stub fail, a new stub reaches a new object."""
    stub = env.LOADED.getByName("aborted")
    found = [await stub.keep("before")]
    for _ in range(2):
        try:
            await stub.abort("kept at the abort")
        except Exception as error:
            found.append(str(error))
    found.append(await env.LOADED.getByName("aborted").seen())
    return found


async def errors(env):
    stub = env.FAILING.getByName("one")
    found = []
    for call in (
        lambda: stub.fail("value"),
        lambda: stub.fail("type"),
        lambda: stub.fail("key"),
        lambda: stub.fail("other"),
        lambda: stub.nothing(),
        lambda: stub.returns_tuple(),
        lambda: stub.plain((1,)),
        lambda: stub.alarm(),
        lambda: env.FAILING.idFromString("zz"),
        lambda: env.FAILING.idFromString("0" * 64),
    ):
        try:
            await call()
            found.append("no error")
        except Exception as error:
            found.append([type(error).__name__, str(error), getattr(error, "remote", False)])
    found.append(await stub.plain(1, "a", [None], {"k": 1.5}, option=True))
    found.append([(await stub.values(value))[0] for value in (b"bytes", {"a": 1}, [1], {1}, datetime.now(), 2**70)])
    answer = await stub.fetch("https://object/path", method="POST", body="body")
    found.append([answer.status, await answer.json()])
    return found


async def ids(env):
    namespace = env.COUNTER
    named, unique = namespace.idFromName("n"), namespace.newUniqueId()
    again = namespace.idFromString(named.toString())
    return [
        named.name,
        len(str(unique)),
        unique.name,
        named.equals(again),
        named.equals(unique),
        namespace.get(named).id.equals(named),
        again.name,
    ]


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        """`/NAMESPACE/name/method?json=args` or the name of a function above."""
        url = urlsplit(request.url)
        namespace, _, rest = url.path.strip("/").partition("/")
        if not rest:
            return Response.json(await globals()[namespace](self.env))
        name, _, method = rest.partition("/")
        args = [json.loads(value) for _, value in parse_qsl(url.query)]
        stub = getattr(self.env, namespace).getByName(name)
        return Response.json(await getattr(stub, method)(*args))
