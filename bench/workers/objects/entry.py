import itertools
from urllib.parse import parse_qs, urlsplit

from workers import DurableObject, Response, WorkerEntrypoint

MANY_KEYS = 5000
calls = itertools.count()


class Counter(DurableObject):
    async def increment(self):
        value = (await self.ctx.storage.get("value") or 0) + 1
        await self.ctx.storage.put("value", value)
        return value

    async def nothing(self):
        return None

    async def fill(self):
        for i in range(MANY_KEYS):
            self.ctx.storage.put(f"key-{i:05d}", {"n": i, "text": "x" * 100})

    async def read_one(self, count):
        for _ in range(count):
            await self.ctx.storage.get("key-00000")

    async def read_many(self, first, count):
        for i in range(first, first + count):
            await self.ctx.storage.get(f"key-{i % MANY_KEYS:05d}")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        count = int(parse_qs(url.query).get("n", ["0"])[0])
        counters = self.env.COUNTERS
        match url.path:
            case "/hello":
                pass
            case "/increment":
                await counters.getByName(f"counter-{next(calls) % count}").increment()
            case "/rpc":
                stub = counters.getByName("rpc")
                for _ in range(count):
                    await stub.nothing()
            case "/fill":
                await counters.getByName("reader").fill()
            case "/read-one":
                await counters.getByName("reader").read_one(count)
            case "/read-many":
                await counters.getByName("reader").read_many(next(calls) * count, count)
        return Response("ok")
