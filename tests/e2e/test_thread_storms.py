"""Threads that start threads without end, or never rest: stopped, or killed, and all that they used is charged."""

import json
import threading
import time
from textwrap import dedent

import httpx2
import pytest
from edge_process import EdgeProcess, eventually

from edge_runtime.cli.usage_now import usage_now
from edge_runtime.process_cpu import process_cpu_ns

CPU_MS = 400
LATE_MS = 5000
"""CPU time that passes at most until a stop, on a machine where whoever stops comes late."""
CHARGED_SHARE = 0.8
"""Of what the kernel counts: what the runtime itself uses is none of it, to answer meanwhile and to have calls made in
threads. Limit and calls are long enough for it to be little on a slow machine too."""

STORMS = dedent("""
    import _thread, os, threading, time
    from concurrent.futures import ThreadPoolExecutor

    import trio
    from workers import DurableObject, Response, WorkerEntrypoint, WorkflowEntrypoint


    def work(turns):
        while turns:
            turns -= 1


    def raw(fn):
        _thread.start_new_thread(fn, ())


    def threaded(fn):
        threading.Thread(target=fn, daemon=True).start()


    def many(start, count, fn):
        for _ in range(count):
            try:
                start(fn)
            except RuntimeError:
                time.sleep(0.001)


    def successors():
        "Each does a little, starts the next and ends: none lives as long as a tick."
        def link():
            work(2000)
            many(raw, 1, link)
        many(raw, 100, link)


    def wakers():
        "Each wakes every millisecond, and nothing ends one."
        def wake():
            while True:
                try:
                    time.sleep(0.001)
                    work(500)
                except BaseException:
                    pass
        many(threaded, 250, wake)


    def heirs():
        "Each swallows what it is stopped with, and leaves a successor."
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
                        raw(link)
                        break
                    except BaseException:
                        pass
        many(raw, 100, link)


    def breeders():
        "Up to as many as there may be, each of them starting others."
        def link():
            for _ in range(20):
                time.sleep(0.001)
                work(500)
                many(threaded, 1, link)
        many(threaded, 4, link)


    def mayflies():
        "Threads that do nothing, as fast as they can be started."
        def feed():
            while True:
                many(raw, 1, os.getpid)
        many(threaded, 8, feed)


    def burners():
        "So many that the event loop has its turn once in a second."
        def burn():
            while True:
                work(10**6)
        many(raw, 250, burn)


    def flood():
        "The handler itself starts them, as fast as it can."
        def burn():
            while True:
                work(10**6)
        while True:
            many(threaded, 1, burn)


    def pool():
        "Work that gives the pool more of it."
        threads = ThreadPoolExecutor(16)

        def link():
            work(2000)
            threads.submit(link)
        many(threads.submit, 32, link)


    class Counter(DurableObject):
        async def breeders(self):
            breeders()


    class Flow(WorkflowEntrypoint):
        async def run(self, event, step):
            async def attempt():
                heirs()
            await step.do("storm", {"retries": {"limit": 0, "delay": 0}}, attempt)


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            match request.url.rpartition("/")[2]:
                case "pid":
                    return Response(str(os.getpid()))
                case "successors":
                    successors()
                case "wakers":
                    wakers()
                case "burners":
                    burners()
                case "flood":
                    flood()
                case "pool":
                    pool()
                case "mayflies":
                    self.ctx.waitUntil(self.later())
                case "breeders":
                    await self.env.COUNTER.getByName("one").breeders()
                case "heirs":
                    await self.env.FLOW.create()
                case "calls":
                    async with trio.open_nursery() as nursery:
                        for _ in range(50):
                            nursery.start_soon(self.calls)
            return Response("done")

        async def later(self):
            await trio.sleep(0)
            mayflies()

        async def calls(self):
            while True:
                try:
                    await trio.to_thread.run_sync(work, 100_000)
                except Exception:
                    raise
                except BaseException as error:
                    if type(error).__name__ != "CpuLimitExceeded":
                        raise
    """)
WAYS = ("successors", "wakers", "burners", "flood", "pool", "mayflies", "breeders", "heirs", "calls")
RESTS_NS = 15_000_000
"""What an isolate uses at most to answer a short request."""

IMPORTED = """
successors()
"""


def write_worker(folder, script):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    config = {
        "name": folder.name,
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "limits": {"cpu_ms": CPU_MS},
        "edge": {"startup_cpu_ms": 5000, "blocked_ms": 60_000},
        "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        "workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    }
    (folder / "wrangler.json").write_text(json.dumps(config))


class Server:
    def __init__(self, edge, data):
        self.edge = edge
        self._data = data

    def ask(self, worker, path):
        with self.edge.client() as client:
            return client.get(f"/{path}", headers={"host": f"{worker}.localhost"})

    def pid(self, worker):
        def pid():
            try:
                answer = self.ask(worker, "pid")
            except httpx2.HTTPError:
                return None  # it came to an isolate just as that was killed
            return answer.status_code == 200 and int(answer.text)

        return eventually(pid)

    def charged_us(self, worker):
        return sum(row.cpu_us for row in usage_now(self._data, worker, None, None) if row.kind != "startup")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    for way in WAYS:
        write_worker(root / way, STORMS)
    write_worker(root / "imported", STORMS + IMPORTED)
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        yield Server(edge.wait_ready(), data)
        assert edge.interrupt() == 0


class Watched:
    """An isolate, as the kernel counts its CPU time from now on, be it killed meanwhile."""

    def __init__(self, pid):
        self.pid = pid
        self.used_us = 0
        self.dead = False
        self._before_us = process_cpu_ns(pid) // 1000
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        try:
            while True:
                self.used_us = process_cpu_ns(self.pid) // 1000 - self._before_us
                time.sleep(0.005)
        except OSError:
            self.dead = True

    def rests(self, server, worker):
        """Whether it uses no more for a while than it takes to answer."""
        for _ in range(3):
            before_ns = process_cpu_ns(self.pid)
            if server.pid(worker) != self.pid or process_cpu_ns(self.pid) - before_ns > RESTS_NS:
                return False
        return True

    def is_over(self, server, worker):
        try:
            return self.dead or (self.used_us >= CPU_MS * 1000 and self.rests(server, worker))
        except OSError:
            return True


@pytest.mark.parametrize("way", WAYS)
def test_storm_of_threads_is_stopped_and_charged(server, way):
    watched = Watched(server.pid(way))

    def ask():
        try:
            server.ask(way, way)
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            pass  # its isolate was killed

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: watched.is_over(server, way), every_s=0.005)
    asking.join()
    assert watched.used_us <= (CPU_MS + LATE_MS) * 1000
    eventually(lambda: server.charged_us(way) >= CHARGED_SHARE * watched.used_us)
    assert server.charged_us(way) <= (CPU_MS + LATE_MS) * 1000


def test_storm_of_threads_from_the_import_is_stopped_and_charged(server):
    def charged():
        try:
            server.ask("imported", "pid")  # starts another isolate, where it storms too
        except httpx2.HTTPError:
            pass
        return server.charged_us("imported") >= CPU_MS * 1000

    eventually(charged)
    server.edge.wait_for(rf"ended: killed: threads that run for no event used more than .* = {CPU_MS} ms of CPU")
