"""Answers once a KV entry and an object's writes are durable; the body of the request is the key.

POST /awaited awaits the object's writes, POST /gated leaves them to the output gate. GET / shows all there is.
"""

from workers import DurableObject, Response, WorkerEntrypoint


class Tally(DurableObject):
    async def add(self, key, awaited):
        count = (await self.ctx.storage.get("count") or 0) + 1
        written = self.ctx.storage.put({"count": count, f"key/{key}": count})
        if awaited:
            await written
        return count

    async def all(self):
        numbered = await self.ctx.storage.list(prefix="key/")
        return {
            "count": await self.ctx.storage.get("count") or 0,
            "keys": {key.removeprefix("key/"): number for key, number in numbered.items()},
        }


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        tally = self.env.TALLIES.getByName("all")
        if request.method == "POST":
            key = await request.text()
            await self.env.ENTRIES.put(key, f"value of {key}")
            return Response.json({"count": await tally.add(key, request.url.endswith("/awaited"))})
        entries, cursor = {}, None
        while True:
            page = await self.env.ENTRIES.list(cursor=cursor)
            for key in page["keys"]:
                entries[key["name"]] = await self.env.ENTRIES.get(key["name"])
            if page["list_complete"]:
                break
            cursor = page["cursor"]
        return Response.json({"entries": entries, **await tally.all()})
