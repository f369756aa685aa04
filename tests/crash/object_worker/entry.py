"""Counters that remember for each increment whose it was: POST /NAME?mark=M counts M once, GET /NAME tells all."""

from urllib.parse import parse_qs, urlsplit

from workers import DurableObject, Response, WorkerEntrypoint


class Tally(DurableObject):
    async def count(self, mark):
        known = await self.ctx.storage.get(f"mark:{mark}")
        if known is not None:
            return known
        value = (await self.ctx.storage.get("value") or 0) + 1
        self.ctx.storage.put("value", value)
        self.ctx.storage.put(f"mark:{mark}", value)
        return value

    async def all(self):
        marks = await self.ctx.storage.list(prefix="mark:")
        return {
            "value": await self.ctx.storage.get("value") or 0,
            "marks": {key.removeprefix("mark:"): value for key, value in marks.items()},
        }


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        url = urlsplit(request.url)
        tally = self.env.TALLIES.getByName(url.path.strip("/"))
        if request.method == "POST":
            return Response.json({"value": await tally.count(parse_qs(url.query)["mark"][0])})
        return Response.json(await tally.all())
