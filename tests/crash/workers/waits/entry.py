"""A request that waits for an object, which prints that it was called and does not answer."""

import trio
from workers import DurableObject, Response, WorkerEntrypoint


class Silent(DurableObject):
    async def wait(self):
        print("called")
        await trio.sleep_forever()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response(str(await self.env.SILENT.getByName("one").wait()))
