"""Code that uses more CPU time than it may: stopped whatever it does against it, and charged to its worker."""

import json
from textwrap import dedent

import httpx2
import pytest
from edge_process import EdgeProcess, eventually, replace_text

from edge_runtime.cli.usage_now import usage_now

CPU_MS = 150
LATE_MS = 5000
"""CPU time that passes at most until a stop by somebody who looks now and then, on a machine where he comes late."""
SOON_MS = 1000
"""The same for a stop from inside, which the process's own CPU time brings about."""
STARTUP_CPU_MS = 600

BURN = """
def burn():
    turns = 0
    while True:
        turns += 1
"""

SCRIPT = BURN + dedent("""
    import _thread, asyncio, ctypes, hashlib, os, re, signal, subprocess, sys, threading

    import trio
    from workers import Response, WorkerEntrypoint

    seen = []


    def stubborn():
        while True:
            try:
                burn()
            except BaseException:
                pass


    def native():
        sum(range(10**12))


    class Endless:
        def __del__(self):
            burn()


    class Told(Exception):
        def __str__(self):
            burn()


    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
    def foreign(in_c):
        if in_c:
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)
        burn()


    def start_thread_natively(in_c):
        thread = ctypes.c_ulong()
        assert not ctypes.CDLL(None).pthread_create(ctypes.byref(thread), None, foreign, ctypes.c_void_p(in_c))


    def start_thread():
        threading.Thread(target=burn, daemon=True).start()


    async def burn_in_thread():
        await THREAD(burn)


    def step_by_hand():
        given_up = trio.lowlevel.cancel_shielded_checkpoint()
        given_up.send(None)
        seen.append(given_up)


    def generator():
        try:
            yield
        finally:
            burn()


    async def async_generator():
        try:
            yield
        finally:
            burn()


    async def in_turns():
        while True:
            try:
                await SLEEP(0)
                time_left = 20_000
                while time_left:
                    time_left -= 1
            except Exception:
                seen.append("an Exception")
            except BaseException as error:
                if type(error).__name__ != "CpuLimitExceeded":
                    raise


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            match request.url.rpartition("/")[2]:
                case "tidy":
                    try:
                        burn()
                    except Exception:
                        seen.append("an Exception")
                    finally:
                        seen.append("finally")
                case "async_loop":
                    while True:
                        await SLEEP(0)
                        sum(range(5000))
                case "by_hand":
                    step_by_hand()
                    burn()
                case "native_by_hand":
                    step_by_hand()
                    native()
                case "later":
                    self.ctx.waitUntil(self.burn_later())
                case "del":
                    Endless()
                case "generator":
                    next(left := generator())
                    del left
                case "async_generator":
                    await anext(left := async_generator())
                    del left
                    await SLEEP(0.001)
                case "thread":
                    threading.Thread(target=burn, daemon=True).start()
                case "raw_thread":
                    _thread.start_new_thread(burn, ())
                case "worker_thread":
                    await THREAD(burn)
                case "thread_of_thread":
                    threading.Thread(target=start_thread).start()
                case "foreign_c":
                    start_thread_natively(True)
                case "foreign_python":
                    start_thread_natively(False)
                case "forks":
                    own = os.getpid()
                    try:
                        while True:
                            os.fork()
                    except BlockingIOError as error:
                        if os.getpid() != own:
                            os._exit(0)
                        return Response(str(error))
                case "stubborn":
                    stubborn()
                case "turns":
                    await in_turns()
                case "stubborn_thread":
                    _thread.start_new_thread(stubborn, ())
                case "native":
                    native()
                case "native_thread":
                    await THREAD(native)
                case "greedy_thread":
                    sys.setswitchinterval(1e6)
                    _thread.start_new_thread(burn, ())
                case "signals":
                    signal.signal(signal.SIGPROF, signal.SIG_IGN)
                    signal.setitimer(signal.ITIMER_PROF, 0)
                    burn()
                case "system_task":
                    trio.lowlevel.spawn_system_task(burn_in_thread)
                case "raises":
                    raise Told
                case "callback":
                    trio.lowlevel.current_trio_token().run_sync_soon(burn)
                case "fork":
                    if not os.fork():
                        burn()
                case "daemon":
                    if not os.fork():
                        os.setsid()
                        if not os.fork():
                            burn()
                        os._exit(0)
                case "process":
                    subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
            return Response(" ".join(map(str, [os.getpid(), *seen])))

        async def burn_later(self):
            await SLEEP(0)
            burn()
    """)

IMPORTS_THREAD = (
    BURN
    + """
import _thread
from workers import Response, WorkerEntrypoint

class Default(WorkerEntrypoint):
    async def fetch(self, request):
        return Response("here")

_thread.start_new_thread(burn, ())
"""
)

BOTH = ("trio", "asyncio")
ANSWERED = {"tidy": BOTH, "worker_thread": BOTH, "async_loop": BOTH, "by_hand": ("trio",)}
"""Stopped inside of the handler: Cloudflare's page, and the isolate goes on."""
LATER = {
    "later": ("trio",),
    "del": BOTH,
    "generator": ("trio",),
    "async_generator": BOTH,
    "thread": ("asyncio",),
    "raw_thread": ("trio",),
    "thread_of_thread": ("asyncio",),
    "system_task": ("trio",),
    "callback": ("trio",),
    "fork": ("trio",),
    "daemon": ("trio",),
    "process": ("trio",),
}
"""Stopped beside the handler or swallowed by the interpreter: the client has its answer, and the isolate goes on."""
KILLED = {
    "stubborn": ("trio",),
    "turns": ("asyncio",),
    "stubborn_thread": ("trio",),
    "native": ("trio",),
    "native_by_hand": ("trio",),
    "native_thread": BOTH,
    "greedy_thread": ("trio",),
    "signals": BOTH,
    "raises": ("trio",),
    "foreign_c": ("asyncio",),
    "foreign_python": ("trio",),
}
FORKS = {"forks": ("trio",)}
IMPORTS = {
    "import_loop": BURN + "burn()",
    "import_native": "sum(range(10**12))",
}


def cases(table):
    return [pytest.param(way, flavour, id=f"{way}-{flavour}") for way in table for flavour in table[way]]


def name_of(way, flavour):
    return f"{way}-{flavour}".replace("_", "-")


def write_worker(folder, script, **edge):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    config = {
        "name": folder.name,
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "limits": {"cpu_ms": CPU_MS},
        "edge": {"startup_cpu_ms": 5000, "blocked_ms": 60_000, **edge},
    }
    (folder / "wrangler.json").write_text(json.dumps(config))


class Server:
    def __init__(self, edge, data):
        self.edge = edge
        self._data = data

    def ask(self, way, flavour="trio", path=None):
        with self.edge.client() as client:
            return client.get(
                f"/{way if path is None else path}", headers={"host": f"{name_of(way, flavour)}.localhost"}
            )

    def pid(self, way, flavour="trio"):
        answer = self.ask(way, flavour, "pid")
        assert answer.status_code == 200, answer.text
        return int(answer.text.split()[0])

    def replaced(self, before, way, flavour):
        """Whether another isolate answers; a request that came to the old one may be told that it was killed."""
        try:
            answer = self.ask(way, flavour, "pid")
        except httpx2.HTTPError:
            return False  # the old one had read it, and was killed before anybody knew
        return answer.status_code == 200 and int(answer.text.split()[0]) != before

    def usage(self, worker):
        return usage_now(self._data, worker, None, None)

    def charged_us(self, worker):
        return sum(row.cpu_us for row in self.usage(worker) if row.kind != "startup")

    def stopped(self, worker):
        return sum(row.errors.get("exceededCpu", 0) for row in self.usage(worker))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    for param in cases({**ANSWERED, **LATER, **KILLED, **FORKS}):
        way, flavour = param.values
        thread = {"trio": "trio.to_thread.run_sync", "asyncio": "asyncio.to_thread"}[flavour]
        script = SCRIPT.replace("SLEEP", f"{flavour}.sleep").replace("THREAD", thread)
        write_worker(root / name_of(way, flavour), script, flavour=flavour)
    write_worker(root / name_of("import_thread", "trio"), IMPORTS_THREAD)
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 1) as edge:
        yield Server(edge.wait_ready(), data)
        assert edge.interrupt() == 0


def assert_charged(server, worker, at_most_ms):
    """What was used beyond the limit is no more than the stop may take, and nothing of it is missing."""
    used_us = eventually(lambda: (now := server.charged_us(worker)) >= CPU_MS * 1000 and now)
    assert used_us <= (CPU_MS + at_most_ms) * 1000


@pytest.mark.parametrize(("way", "flavour"), cases(ANSWERED))
def test_stopped_handler_gives_cloudflares_page(server, way, flavour):
    before = server.pid(way, flavour)
    answer = server.ask(way, flavour)
    assert (answer.status_code, answer.text) == (500, "error code: 1102")
    assert server.pid(way, flavour) == before
    if way == "tidy":
        assert server.ask(way, flavour, "pid").text.split()[1:] == ["finally"]
    worker = name_of(way, flavour)
    eventually(lambda: server.stopped(worker) == 1)
    assert_charged(server, worker, SOON_MS)


@pytest.mark.parametrize(("way", "flavour"), cases(LATER))
def test_what_runs_beside_the_handler_is_stopped_and_charged(server, way, flavour):
    before = server.pid(way, flavour)
    assert server.ask(way, flavour).status_code == 200
    # Processes are looked at once a second.
    assert_charged(server, name_of(way, flavour), LATE_MS if way in ("fork", "daemon", "process") else SOON_MS)
    assert server.pid(way, flavour) == before


@pytest.mark.parametrize(("way", "flavour"), cases(KILLED))
def test_what_cannot_be_stopped_is_killed_and_charged(server, way, flavour):
    before = server.pid(way, flavour)
    try:
        server.ask(way, flavour)
    except (httpx2.RemoteProtocolError, httpx2.ReadError):
        pass
    eventually(lambda: server.replaced(before, way, flavour))
    server.edge.wait_for(rf"isolate {before} ended: killed: .*limits.cpu_ms = {CPU_MS} ms")
    worker = name_of(way, flavour)
    eventually(lambda: server.stopped(worker) == 1)
    assert_charged(server, worker, LATE_MS)


def test_processes_that_multiply_without_end_are_refused_as_by_the_kernel(server):
    before = server.pid("forks")
    answer = server.ask("forks")
    assert answer.text.startswith("[Errno 11] Resource temporarily unavailable: ")
    assert answer.text.endswith(" processes that this one has started were not waited for, and it may have 64")
    assert server.pid("forks") == before


def test_threads_of_the_import_may_use_no_more_than_an_event(server):
    def charged():
        try:
            server.ask("import_thread")  # starts another isolate, that begins to burn too
        except httpx2.HTTPError:
            pass
        rows = [row for row in server.usage(name_of("import_thread", "trio")) if row.kind == "background"]
        return sum(row.cpu_us for row in rows) >= CPU_MS * 1000 and [name for row in rows for name in row.errors]

    assert eventually(charged) == ["exceededCpu"]
    server.edge.wait_for(rf"ended: killed: threads that run for no event used more than .* = {CPU_MS} ms of CPU")


@pytest.mark.parametrize("way", IMPORTS)
def test_import_that_never_ends_is_stopped_and_charged_to_its_worker(way, tmp_path):
    folder = tmp_path / "importing"
    write_worker(folder, IMPORTS[way], startup_cpu_ms=STARTUP_CPU_MS)
    data = tmp_path / "data"
    with EdgeProcess("dev", folder, "--port", 0, "--data", data) as edge:
        edge.wait_for(rf"Script startup exceeded CPU time limit\. .*edge.startup_cpu_ms = {STARTUP_CPU_MS} ms")
        replace_text(folder / "entry.py", SCRIPT.replace("SLEEP", "trio.sleep").replace("THREAD", "str"))
        server = Server(edge.wait_ready(), data)
        eventually(lambda: _answers(edge))

        def failed_import():
            rows = [row for row in server.usage("importing") if row.errors and row.kind == "startup"]
            return rows and rows[0].cpu_us

        used_us = eventually(failed_import)
        assert STARTUP_CPU_MS * 1000 <= used_us <= (STARTUP_CPU_MS + LATE_MS) * 1000


def _answers(edge):
    try:
        with edge.client() as client:
            return client.get("/pid").status_code == 200
    except httpx2.HTTPError:
        return False
