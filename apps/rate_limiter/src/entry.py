"""Token buckets, one Durable Object for each client.

POST /CLIENT takes a token: 200 with what is left, or 429 with Retry-After. `?tokens=N` takes N at once.
GET  /CLIENT shows the bucket and takes nothing.

CAPACITY tokens fit a bucket; an alarm puts one back every REFILL_MS until it is full. A full bucket is forgotten, so
clients that stay away cost nothing.
"""

import math
import time
from urllib.parse import parse_qs, urlparse

from workers import DurableObject, Response, WorkerEntrypoint


def now_ms():
    return time.time_ns() // 1_000_000


class Bucket(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.capacity = int(env.CAPACITY)
        self.refill_ms = int(env.REFILL_MS)

    async def tokens(self):
        tokens = await self.ctx.storage.get("tokens")
        return self.capacity if tokens is None else tokens

    async def take(self, count):
        """Whether the tokens were there, how many are left, and how long until `count` will be there again."""
        tokens = await self.tokens()
        allowed = count <= tokens
        if allowed:
            tokens -= count
            await self.ctx.storage.put("tokens", tokens)
            if await self.ctx.storage.getAlarm() is None:
                await self.ctx.storage.setAlarm(now_ms() + self.refill_ms)
        return {"allowed": allowed, "left": tokens, "wait_ms": await self.wait_ms(count - tokens)}

    async def wait_ms(self, missing):
        next_ms = await self.ctx.storage.getAlarm()
        if missing <= 0 or next_ms is None:
            return 0
        return max(0, next_ms - now_ms()) + (missing - 1) * self.refill_ms

    async def alarm(self, info):
        # Due tokens of a time when nothing ran are put back together; the schedule keeps its beat.
        due = 1 + (now_ms() - info.scheduledTime) // self.refill_ms
        tokens = await self.tokens() + due
        if tokens >= self.capacity:
            await self.ctx.storage.deleteAll()
            return
        await self.ctx.storage.put("tokens", tokens)
        await self.ctx.storage.setAlarm(info.scheduledTime + due * self.refill_ms)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        client = url.path.strip("/")
        if not client or "/" in client:
            return Response("POST /CLIENT takes a token, GET /CLIENT shows the bucket\n", status=404)
        bucket = self.env.BUCKETS.getByName(client)
        capacity = int(self.env.CAPACITY)
        if request.method == "GET":
            return Response.json({"capacity": capacity, "left": await bucket.tokens()})
        if request.method != "POST":
            return Response("Method Not Allowed\n", status=405, headers={"Allow": "GET, POST"})
        asked = parse_qs(url.query).get("tokens", ["1"])[0]
        if not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= capacity):
            return Response(f"tokens is a number from 1 to {capacity}\n", status=400)
        taken = await bucket.take(int(asked))
        headers = {"RateLimit-Limit": str(capacity), "RateLimit-Remaining": str(taken["left"])}
        if taken["allowed"]:
            return Response.json(taken, headers=headers)
        headers["Retry-After"] = str(math.ceil(taken["wait_ms"] / 1000))
        return Response.json(taken, status=429, headers=headers)
