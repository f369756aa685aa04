"""Loops of known CPU time in every place where code of a script runs; `own_clock` measures them.

A place is a method of the object `Work`, so that the ledger has a row for each; what is no call has a row of its own.
"""

import _thread
import asyncio
import contextvars
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import js
import own_clock
import trio
from js import WebSocketPair
from own_clock import BURN_NS, burn, known, known_ns, measured, report, stepped, times
from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint, asgi, env, wsgi

IS_TRIO = env.FLAVOUR == "trio"
pause = trio.sleep if IS_TRIO else asyncio.sleep
in_thread = trio.to_thread.run_sync if IS_TRIO else asyncio.to_thread
pool = ThreadPoolExecutor(1)
left_tasks = []
CHILD = """\
import os, sys, time
while time.process_time_ns() < int(sys.argv[1]):
    pass
sys.stdout.write(str(time.process_time_ns()))
sys.stdout.flush()
os._exit(0)
"""


async def burn_later(place, parts=1):
    async def work():
        await pause(0.001)
        burn(place, parts)

    await stepped(place, work())


async def generated(place):
    for _ in range(2):
        burn(place)
        yield b"piece"
        await stepped(place, pause(0.001))


async def left_behind(place):
    try:
        yield
    finally:
        burn(place)


class Left:
    def __init__(self, place):
        self.place = place

    def __del__(self):
        burn(self.place)


async def trio_callbacks():
    token = trio.lowlevel.current_trio_token()
    over = trio.Event()

    def called():
        burn("callbacks", 2)

    def called_from_thread():
        trio.from_thread.run_sync(called)
        trio.from_thread.run_sync(called, trio_token=token)
        token.run_sync_soon(called)

    def called_last():
        called()
        over.set()

    await in_thread(measured("callbacks")(called_from_thread))
    token.run_sync_soon(called_last)
    await over.wait()


async def loop_callbacks():
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    reading, writing = socket.socketpair()

    def called(*_):
        burn("callbacks", 3)

    def readable():
        loop.remove_reader(reading)
        called()
        over.set()

    loop.call_soon(called)
    loop.call_later(0.001, called)
    loop.call_soon(called, context=contextvars.Context())
    await in_thread(loop.call_soon_threadsafe, called)
    future = loop.create_future()
    future.add_done_callback(called)
    future.set_result(None)
    loop.add_reader(reading, readable)
    writing.send(b"!")
    await over.wait()
    reading.close()
    writing.close()


def run_child():
    with measured("process"):
        # Its own end, which it cannot measure, is not to matter.
        burn_ns = 5 * BURN_NS if own_clock.loops else 0
        report("process", int(subprocess.check_output([sys.executable, "-I", "-S", "-c", CHILD, str(burn_ns)])))


def pulled_stream():
    left = [b"pie", b"ce"]

    def pull(controller):
        burn("pull")
        controller.enqueue(js.Uint8Array.new(left.pop()))
        if not left:
            controller.close()

    return js.ReadableStream.new({"pull": pull})


def wsgi_application(environ, start_response):
    burn("wsgi", 2)
    start_response("200 OK", [("Content-Type", "text/plain")])

    def body():
        burn("wsgi", 2)
        yield b"ok"

    return body()


async def asgi_application(scope, receive, send):
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return

    async def answer():
        burn("asgi", 2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await pause(0.001)
        burn("asgi", 2)
        await send({"type": "http.response.body", "body": b"ok"})

    await stepped("asgi", answer())


class Work(DurableObject):
    @known("nothing")
    async def nothing(self):
        pass

    @known("sleep")
    async def sleep(self):
        await pause(0.1)

    @known("naps")
    async def naps(self):
        for _ in range(20):
            await pause(0.002)

    @known("blocked")
    async def blocked(self):
        time.sleep(0.05)  # noqa: ASYNC251 - what is measured is that it costs nothing

    @known("blocked_thread")
    async def blocked_thread(self):
        def block():
            with measured("blocked_thread"):
                time.sleep(0.02)

        for _ in range(5):
            await in_thread(block)

    @known("asks")
    async def asks(self):
        await self.env.WORK.getByName("asked").answers_late()

    async def answers_late(self):
        await pause(0.05)

    @known("plain")
    async def plain(self):
        burn("plain")

    @known("sync")
    def sync(self):
        burn("sync")

    @known("slices")
    async def slices(self):
        for _ in range(5):
            burn("slices", 5)
            await pause(0.001)

    @known("children")
    async def children(self):
        if IS_TRIO:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(burn_later, "children", 2)
        else:
            await asyncio.gather(*(asyncio.create_task(burn_later("children", 2)) for _ in range(2)))

    @known("in_thread")
    async def in_thread(self):
        await in_thread(burn, "in_thread")

    @known("thread")
    async def thread(self):
        thread = threading.Thread(target=burn, args=("thread",))
        thread.start()
        thread.join()

    @known("inner_thread")
    async def inner_thread(self):
        def start_another():
            with measured("inner_thread"):
                thread = threading.Thread(target=burn, args=("inner_thread",))
                thread.start()
                thread.join()

        thread = threading.Thread(target=start_another)
        thread.start()
        thread.join()

    async def raw_thread(self):
        _thread.start_new_thread(known("raw_thread")(burn), ("raw_thread",))

    @known("pooled")
    async def pooled(self):
        pool.submit(burn, "pooled").result()

    @known("pooled_again")
    async def pooled_again(self):
        pool.submit(burn, "pooled_again").result()

    @known("process")
    async def process(self):
        run_child()

    @known("blocking")
    async def blocking(self):
        await self.ctx.blockConcurrencyWhile(lambda: burn_later("blocking"))

    @known("transaction")
    async def transaction(self):
        await self.ctx.storage.transaction(lambda _: burn_later("transaction"))

    async def later(self):
        self.ctx.waitUntil(known("later")(burn_later)("later"))

    async def left_task(self):
        task = known("left_task")(burn_later)
        if IS_TRIO:
            trio.lowlevel.spawn_system_task(task, "left_task", context=contextvars.copy_context())
        else:
            left_tasks.append(asyncio.create_task(task("left_task")))

    @known("callbacks")
    async def callbacks(self):
        await (trio_callbacks if IS_TRIO else loop_callbacks)()

    @known("generator")
    async def generator(self):
        generator = left_behind("generator")
        await anext(generator)
        del generator
        await pause(0.001)

    @known("closed_generator")
    async def closed_generator(self):
        generator = left_behind("closed_generator")
        await anext(generator)
        await generator.aclose()

    @known("by_hand")
    async def by_hand(self):
        checkpoint = (trio.lowlevel.cancel_shielded_checkpoint if IS_TRIO else lambda: asyncio.sleep(0))()
        checkpoint.send(None)
        burn("by_hand", 2)
        checkpoint.close()
        burn("by_hand", 2)

    @known("finalizer")
    async def finalizer(self):
        Left("finalizer")

    async def fetch(self, request):
        client, server = WebSocketPair.new().object_values()
        if request.url.endswith("hibernating"):
            self.ctx.acceptWebSocket(server)
        else:
            listen(server, "websocket Work.fetch")
        return Response(None, status=101, web_socket=client)

    @known("webSocketMessage")
    async def webSocketMessage(self, socket, message):
        burn("webSocketMessage")
        socket.send("hell\u00f6")

    @known("alarm")
    async def alarm(self):
        burn("alarm")

    async def later_alarm(self):
        await self.ctx.storage.setAlarm(int(time.time() * 1000))


def listen(socket, place):
    @known(place)
    def on_message(event):
        burn(place)
        socket.send("hell\u00f6")

    socket.accept()
    socket.addEventListener("message", on_message)


class Made(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        with measured("constructor"):
            burn("constructor", 2)
            ctx.blockConcurrencyWhile(lambda: known("constructor")(burn_later)("constructor", 2))

    async def used(self):
        pass


class Flow(WorkflowEntrypoint):
    @known("flow")
    async def run(self, event, step):
        burn("flow")

        @step.do("async step")
        @known("flow/async step")
        async def asynchronous():
            burn("flow/async step", 2)
            await pause(0.001)
            burn("flow/async step", 2)

        @step.do("sync step")
        @known("flow/sync step")
        def synchronous():
            assert threading.current_thread() is not threading.main_thread()
            burn("flow/sync step")

        await asynchronous()
        await synchronous()


class Undone(WorkflowEntrypoint):
    async def run(self, event, step):
        @known("undone/step")
        async def undo(*_):
            burn("undone/step")

        await step.do("step", lambda: None, rollback=undo)
        raise RuntimeError("what was done is to be undone")


class Remote(WorkerEntrypoint):
    @known("Remote.call")
    async def call(self):
        burn("Remote.call")

    @known("Remote.fetch")
    def fetch(self, request):
        burn("Remote.fetch")
        return Response("ok")


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        place = urlsplit(request.url).path.strip("/")
        work = self.env.WORK.getByName("one")
        match place:
            case "loop":
                own_clock.loops = True
            case "known":
                return Response.json({place: [used_ns, times.get(place, 0)] for place, used_ns in known_ns.items()})
            case "fetch" | "stream" | "pull" | "wsgi" | "asgi":
                return await known(place)(getattr(self, f"serve_{place}"))(request)
            case "hibernating" | "listening":
                return await work.fetch(request)
            case "socket":
                client, server = WebSocketPair.new().object_values()
                listen(server, "websocket Default.fetch")
                return Response(None, status=101, web_socket=client)
            case "made":
                await self.env.MADE.getByName(f"loops: {own_clock.loops}").used()
            case "remote":
                await self.ctx.exports.Remote.call()
                await self.ctx.exports.Remote.fetch("http://remote/")
            case "flow" | "undone":
                instance = await getattr(self.env, place.upper()).create()
                while (await instance.status())["status"] not in ("complete", "errored"):
                    await pause(0.02)
            case _:
                await getattr(work, place)()
        return Response("ok")

    async def serve_fetch(self, request):
        burn("fetch")
        return Response("ok")

    async def serve_stream(self, request):
        return Response(generated("stream"))

    async def serve_pull(self, request):
        return Response(pulled_stream())

    async def serve_wsgi(self, request):
        return await wsgi.fetch(wsgi_application, request, self.env)

    async def serve_asgi(self, request):
        return await asgi.fetch(asgi_application, request, self.env, self.ctx)

    @known("scheduled")
    async def scheduled(self, controller, env, ctx):
        burn("scheduled")
