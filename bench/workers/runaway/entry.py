"""Uses CPU time without end, in every place and manner that a request names: `/PLACE/MANNER`."""

import _thread
import os
import re
import time
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


def work(turns):
    while turns:
        turns -= 1


def threads(count, fn):
    for _ in range(count):
        try:
            _thread.start_new_thread(fn, ())
        except RuntimeError:
            time.sleep(0.001)


def successors():
    def link():
        work(2000)
        threads(1, link)

    threads(100, link)


def heirs():
    def link():
        try:
            while True:
                time.sleep(0.001)
                work(500)
        except BaseException:
            pass
        finally:
            while True:
                try:
                    _thread.start_new_thread(link, ())
                    break
                except BaseException:
                    pass

    threads(100, link)


def wakers():
    def wake():
        while True:
            try:
                time.sleep(0.001)
                work(500)
            except BaseException:
                pass

    threads(250, wake)


def burners():
    threads(250, python)


def mayflies():
    def feed():
        while True:
            threads(1, os.getpid)

    threads(8, feed)


STORMS = {f.__name__: f for f in (successors, heirs, wakers, burners, mayflies)}
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
            case "storm":
                STORMS[manner]()
            case "thread":
                await trio.to_thread.run_sync(MANNERS[manner])
            case "object":
                await self.env.COUNTER.getByName("one").run_away(manner)
            case "step" | "sync_step":
                await self.env.FLOW.create(params={"place": place, "manner": manner})
        return Response("done")
