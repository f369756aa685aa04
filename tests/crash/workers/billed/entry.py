"""Everything that is billed in its own way. POST /KIND does one of each; GET / shows what is durable of them."""

import trio
import trio.lowlevel
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint

STEPS = 4


class Tally(DurableObject):
    async def add(self):
        count = (await self.ctx.storage.get("count") or 0) + 1
        self.ctx.storage.put("count", count)
        return count

    async def count(self):
        return await self.ctx.storage.get("count") or 0


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        for number in range(STEPS):
            await step.do(f"step {number}", self.nothing)

    async def nothing(self):
        return None


async def a_moment():
    await trio.sleep(0.005)


async def pieces():
    for _ in range(3):
        yield b"piece"
        await trio.lowlevel.checkpoint()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        tally = self.env.TALLIES.getByName("all")
        match request.url.rpartition("/")[2]:
            case "plain":
                return Response("done")
            case "object":
                return Response(str(await tally.add()))
            case "later":
                self.ctx.waitUntil(a_moment())
                return Response("done")
            case "stream":
                return Response(pieces())
            case "failed":
                raise ValueError("as asked")
            case "flow":
                return Response((await self.env.FLOW.create()).id)
            case "ended":
                found = [await (await self.env.FLOW.get(id)).status() for id in await request.json()]
                return Response.json([status["status"] for status in found])
        return Response.json({"count": await tally.count()})
