"""Loops of known CPU time in every place where code of a script runs; what the thread's own clock said is reported.

A way is a method of the object `Work`, so that the ledger has a row for each; what is no call has a row of its own.
"""

import _thread
import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import trio
from js import WebSocketPair
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint, env, wsgi

IS_TRIO = env.FLAVOUR == "trio"
burn_ns = 0
pause = trio.sleep if IS_TRIO else asyncio.sleep
in_thread = trio.to_thread.run_sync if IS_TRIO else asyncio.to_thread
pool = ThreadPoolExecutor(2)
known_ns = {}
left_tasks = []
CHILD = """\
import os, sys, time
while time.process_time_ns() < int(sys.argv[1]):
    pass
sys.stdout.write(str(time.process_time_ns()))
sys.stdout.flush()
os._exit(0)
"""


def report(way, used_ns):
    known_ns[way] = known_ns.get(way, 0) + used_ns


def burn(way, parts=1):
    """Use the CPU for one of `parts` parts of `burn_ns`, and report what it was."""
    begun_ns = now_ns = time.thread_time_ns()
    while now_ns - begun_ns < burn_ns // parts:
        now_ns = time.thread_time_ns()
    report(way, now_ns - begun_ns)


async def burn_later(way, parts=1):
    await pause(0.001)
    burn(way, parts)


async def generated(way):
    for _ in range(2):
        burn(way, 2)
        yield b"piece"
        await pause(0.001)


async def left_behind(way):
    try:
        yield
    finally:
        burn(way)


class Left:
    def __init__(self, way):
        self.way = way

    def __del__(self):
        burn(self.way)


def run_child():
    begun_ns = time.thread_time_ns()
    child_ns = int(subprocess.check_output([sys.executable, "-I", "-S", "-c", CHILD, str(burn_ns)]))
    report("process", child_ns + time.thread_time_ns() - begun_ns)


def application(environ, start_response):
    burn("wsgi", 2)
    start_response("200 OK", [("Content-Type", "text/plain")])

    def body():
        burn("wsgi", 2)
        yield b"ok"

    return body()


class Work(DurableObject):
    async def nothing(self):
        pass

    async def sleep(self):
        await pause(0.1)

    async def blocked(self):
        time.sleep(0.05)  # noqa: ASYNC251 - what is measured is that it costs nothing

    async def plain(self):
        burn("plain")

    async def slices(self):
        for _ in range(2):
            burn("slices", 2)
            await pause(0.001)

    async def children(self):
        if IS_TRIO:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(burn_later, "children", 2)
        else:
            await asyncio.gather(*(asyncio.create_task(burn_later("children", 2)) for _ in range(2)))

    async def in_thread(self):
        await in_thread(burn, "in_thread")

    async def thread(self):
        thread = threading.Thread(target=burn, args=("thread",))
        thread.start()
        await in_thread(thread.join)

    async def raw_thread(self):
        _thread.start_new_thread(burn, ("raw_thread",))

    async def pooled(self):
        await in_thread(pool.submit(burn, "pooled").result)

    async def process(self):
        await in_thread(run_child)

    async def later(self):
        self.ctx.waitUntil(burn_later("later"))

    async def left_task(self):
        if IS_TRIO:
            trio.lowlevel.spawn_system_task(burn_later, "left_task", context=contextvars.copy_context())
        else:
            left_tasks.append(asyncio.create_task(burn_later("left_task")))

    async def generator(self):
        generator = left_behind("generator")
        await anext(generator)
        del generator
        await pause(0)

    async def closed_generator(self):
        generator = left_behind("closed_generator")
        await anext(generator)
        await generator.aclose()

    async def finalizer(self):
        Left("finalizer")

    async def fetch(self, request):
        if request.headers.get("upgrade") == "websocket":
            client, server = WebSocketPair.new().object_values()
            self.ctx.acceptWebSocket(server)
            return Response(None, status=101, web_socket=client)
        return Response("ok")

    async def webSocketMessage(self, socket, message):
        burn("webSocketMessage")
        socket.send("hell\u00f6")

    async def alarm(self):
        burn("alarm")

    async def later_alarm(self):
        await self.ctx.storage.setAlarm(int(time.time() * 1000))


class Flow(WorkflowEntrypoint):
    async def run(self, event, step):
        burn("flow")

        @step.do("async step")
        async def asynchronous():
            burn("flow/async step", 2)
            await pause(0.001)
            burn("flow/async step", 2)

        @step.do("sync step")
        def synchronous():
            assert threading.current_thread() is not threading.main_thread()
            burn("flow/sync step")

        await asynchronous()
        await synchronous()


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        way = urlsplit(request.url).path.strip("/")
        work = self.env.WORK.getByName("one")
        match way:
            case "known":
                return Response.json(known_ns)
            case "burn":
                global burn_ns
                burn_ns = int(await request.text())
            case "fetch":
                burn("fetch")
            case "stream":
                return Response(generated("stream"))
            case "wsgi":
                return await wsgi.fetch(application, request, self.env)
            case "socket":
                return await work.fetch(request)
            case "flow":
                flow = await self.env.FLOW.create()
                while (await flow.status())["status"] not in ("complete", "errored"):
                    await pause(0.02)
            case _:
                await getattr(work, way)()
        return Response("ok")

    async def scheduled(self, controller, env, ctx):
        burn("scheduled")
