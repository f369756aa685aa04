"""Uses CPU time without end, in every place and manner that a request names: `/PLACE/MANNER`."""

import re
import zlib

import trio
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint


def python():
    turns = 0
    while True:
        turns += 1


def swallowed():
    while True:
        try:
            python()
        except BaseException:
            pass


def native():
    sum(range(10**12))


def regex():
    re.match(r"(a+)+$", "a" * 48 + "b")


def compressed():
    zlib.compress(bytes(256 * 2**20), 9)
    native()


def short_calls():
    piece = bytes(2**20)
    while True:
        zlib.compress(piece, 9)


MANNERS = {f.__name__: f for f in (python, swallowed, native, regex, compressed, short_calls)}


class Counter(DurableObject):
    async def run_away(self, manner):
        MANNERS[manner]()


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        manner = MANNERS[event.payload["manner"]]

        async def attempt():
            manner()

        def blocking():
            manner()

        callback = blocking if event.payload["place"] == "sync_step" else attempt
        await step.do("step", {"retries": {"limit": 0, "delay": 0}}, callback)


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        place, manner = request.url.split("/")[-2:]
        match place:
            case "fetch":
                MANNERS[manner]()
            case "thread":
                await trio.to_thread.run_sync(MANNERS[manner])
            case "object":
                await self.env.COUNTER.getByName("one").run_away(manner)
            case "step" | "sync_step":
                await self.env.FLOW.create(params={"place": place, "manner": manner})
        return Response("done")
