"""Named counters, each a Durable Object.

POST /NAME adds one, GET /NAME reads, POST /NAME/reset?after_s=N resets by an alarm.
"""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlparse

from workers import DurableObject, Response, WorkerEntrypoint


class Counter(DurableObject):
    async def value(self):
        return await self.ctx.storage.get("value") or 0

    async def increment(self):
        value = await self.value() + 1
        await self.ctx.storage.put("value", value)
        return value

    async def reset_after(self, seconds):
        await self.ctx.storage.setAlarm(datetime.now(UTC) + timedelta(seconds=seconds))

    async def alarm(self):
        await self.ctx.storage.put("value", 0)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlparse(request.url)
        name, _, action = url.path.strip("/").partition("/")
        if not name:
            return Response("POST /NAME adds one, GET /NAME reads\n", status=404)
        counter = self.env.COUNTERS.getByName(name)
        if request.method == "POST" and action == "reset":
            await counter.reset_after(float(parse_qs(url.query).get("after_s", ["0"])[0]))
            return Response(None, status=202)
        if action:
            return Response("Not Found\n", status=404)
        value = await (counter.increment() if request.method == "POST" else counter.value())
        return Response.json({"name": name, "value": value})
