"""What a worker does wrong harms that worker alone: one server with a good worker and many bad ones."""

import json
import threading
import time
from textwrap import dedent

import httpx2
import pytest
from edge_process import EdgeProcess, eventually

GOOD = dedent("""
    from workers import Response, WorkerEntrypoint


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return Response("good")
    """)

BAD = dedent("""
    import asyncio, atexit, ctypes, os, signal, sys, threading, time

    import trio
    from workers import Response, WorkerEntrypoint

    held = []


    class Mine(BaseException):
        pass


    class BrokenEntrypoint:
        def __init__(self):
            raise Mine("raised in __init__")


    def recurse():
        recurse()


    def wait_for_ever():
        time.sleep(1000)


    def stubborn():
        while True:
            try:
                turns = 0
                while True:
                    turns += 1
            except BaseException:
                pass


    def grow(items):
        while True:
            items.append(bytearray(2**20))


    async def leave():
        await SLEEP(0.001)
        sys.exit(7)


    async def fail():
        raise Mine("raised in waitUntil")


    async def act(worker, what):
        match what:
            case "loop":
                while True:
                    pass
            case "stubborn":
                stubborn()
            case "sleep":
                wait_for_ever()
            case "freeze":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "exit":
                os._exit(0)
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "close_descriptors":
                os.closerange(0, 50)
            case "kill_group":
                os.killpg(0, signal.SIGKILL)
            case "kill_parent":
                os.kill(os.getppid(), signal.SIGKILL)
                wait_for_ever()
            case "system_exit":
                raise SystemExit(3)
            case "interrupt":
                raise KeyboardInterrupt
            case "generator_exit":
                raise GeneratorExit
            case "cancelled":
                raise asyncio.CancelledError
            case "own":
                raise Mine("raised in fetch")
            case "init":
                BrokenEntrypoint()
            case "recursion":
                recurse()
            case "huge":
                bytearray(2**40)
            case "grow":
                grow([])
            case "nursery":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leave)
            case "leak":
                grow(held)
            case "wait_until_exit":
                worker.ctx.waitUntil(leave())
            case "wait_until_own":
                worker.ctx.waitUntil(fail())
            case "task":
                asyncio.create_task(leave())
            case "terminate":
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getppid(), signal.SIGTERM)
            case "thread":
                threading.Thread(target=wait_for_ever).start()
            case "atexit":
                atexit.register(wait_for_ever)
            case "fork":
                os.fork()
        return Response(str(os.getpid()))


    class Default(WorkerEntrypoint):
        async def fetch(self, request):
            return await act(self, request.url.rpartition("/")[2])
    """)

BOTH = ("trio", "asyncio")
BLOCKS = {"stubborn": ("trio",), "sleep": BOTH, "freeze": ("trio",)}
DIES = {
    "exit": BOTH,
    "segfault": ("trio",),
    "abort": ("trio",),
    "close_descriptors": BOTH,
    "kill_group": ("trio",),
    "kill_parent": ("trio",),
}
FAILS = {
    "system_exit": (BOTH, "SystemExit: 3"),
    "interrupt": (BOTH, "KeyboardInterrupt"),
    "generator_exit": (BOTH, "GeneratorExit"),
    "cancelled": (BOTH, "CancelledError"),
    "own": (BOTH, "Mine: raised in fetch"),
    "init": (("trio",), "Mine: raised in __init__"),
    "loop": (BOTH, "CpuLimitExceeded: Worker exceeded CPU time limit."),
    "recursion": (BOTH, "RecursionError: maximum recursion depth exceeded"),
    "huge": (("trio",), "MemoryError"),
    "grow": (BOTH, "MemoryError"),
    "nursery": (("trio",), "SystemExit: 7"),
}
GOES_ON = {
    "wait_until_exit": (BOTH, "SystemExit: 7"),
    "wait_until_own": (BOTH, "Mine: raised in waitUntil"),
    "task": (("asyncio",), "SystemExit: 7"),
    "terminate": (BOTH, ""),
    "thread": (("trio",), ""),
    "atexit": (("trio",), ""),
    "fork": (BOTH, "a process that the script forked returned to its handler's caller"),
}
LEAKS = {"leak": BOTH}


def cases(table):
    """(misdeed, flavour, what the author is told) for each row."""
    rows = [
        (misdeed, *(row if isinstance(row[0], tuple) else (row, "")))  # some tell the author nothing
        for misdeed, row in table.items()
    ]
    return [
        pytest.param(misdeed, flavour, told, id=f"{misdeed}-{flavour}")
        for misdeed, flavours, told in rows
        for flavour in flavours
    ]


def host(misdeed, flavour):
    """A misdeed has a worker of its own, whose crashes do not delay the restart of another."""
    return {"host": f"{misdeed}-{flavour}.localhost".replace("_", "-")}


def write_worker(folder, script, **config):
    folder.mkdir()
    (folder / "entry.py").write_text(script)
    written = {"name": folder.name, "main": "entry.py", "compatibility_date": "2026-05-01", **config}
    (folder / "wrangler.json").write_text(json.dumps(written))


class Neighbour:
    """Somebody who uses the good worker all the time."""

    def __init__(self, edge):
        self.answers = 0
        self.failures = []
        self._edge = edge
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self):
        while not self._leaving.is_set():
            # A connection of its own each time: the listener is used as well.
            try:
                with self._edge.client() as client:
                    for _ in range(5):
                        text = client.get("/", headers={"host": "good.localhost"}).text
                        if text != "good":
                            self.failures.append(text)
                        self.answers += 1
                        time.sleep(0.01)
            except httpx2.HTTPError as error:
                self.failures.append(repr(error))

    def leave(self):
        self._leaving.set()
        self._thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("workers")
    write_worker(root / "good", GOOD)
    for param in cases({**BLOCKS, **DIES, **FAILS, **GOES_ON, **LEAKS}):
        misdeed, flavour, _ = param.values
        # Whatever else a worker does takes CPU time too, and on a slow machine a lot of it.
        limits = {"cpu_ms": 300} if misdeed in ("loop", "stubborn") else {}
        own = {"flavour": flavour, "blocked_ms": 1000 if misdeed in BLOCKS else 20_000, "memory_mb": 256}
        name = f"{misdeed}-{flavour}".replace("_", "-")
        write_worker(root / name, BAD.replace("SLEEP", f"{flavour}.sleep"), limits=limits, edge=own)
    data = tmp_path_factory.mktemp("data")
    with EdgeProcess("run", root, "--port", 0, "--data", data, "--grace-s", 2) as edge:
        yield edge.wait_ready()
        family = edge.family()
        assert edge.interrupt() == 0
        eventually(lambda: not [pid for pid in family if alive(pid)])


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def neighbour(server):
    neighbour = Neighbour(server)
    eventually(lambda: neighbour.answers)
    yield neighbour
    answered = neighbour.answers
    eventually(lambda: neighbour.answers > answered)
    neighbour.leave()
    assert neighbour.failures == []


def pid_of(server, misdeed, flavour):
    """The worker's process, as told by a normal request."""

    def ask():
        try:
            with server.client() as client:
                return client.get("/normal", headers=host(misdeed, flavour))
        except httpx2.HTTPError:
            # On a machine that stands still for a second, a worker that may block for no longer seems to do so.
            return None if misdeed in BLOCKS else pytest.fail(server.output)

    answer = eventually(ask)
    assert answer.status_code == 200, answer.text
    return int(answer.text)


def provoke(server, misdeed, flavour):
    with server.client() as client:
        return client.get(f"/{misdeed}", headers=host(misdeed, flavour))


@pytest.mark.parametrize(("misdeed", "flavour", "told"), cases(BLOCKS))
def test_worker_that_blocks_is_killed_while_others_are_served(server, neighbour, misdeed, flavour, told):
    served = False
    for _ in range(3):  # tries, for a machine that stands still just while the worker blocks
        before = pid_of(server, misdeed, flavour)
        answered = neighbour.answers
        try:
            answer = provoke(server, misdeed, flavour)
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            pass  # where the system does not let the connection outlive the process
        else:
            assert answer.status_code in (500, 503)  # a frozen process may have finished its turn
        served = served or neighbour.answers > answered
        assert pid_of(server, misdeed, flavour) != before
        killed = r"killed: (its event loop was blocked|.* used more than limits.cpu_ms)"
        server.wait_for(rf"isolate {before} ended: {killed}")
        if served:
            break
    assert served


@pytest.mark.parametrize(("misdeed", "flavour", "told"), cases(DIES))
def test_worker_that_dies_is_replaced(server, neighbour, misdeed, flavour, told):
    before = pid_of(server, misdeed, flavour)
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        provoke(server, misdeed, flavour)
    assert pid_of(server, misdeed, flavour) != before
    server.wait_for(rf"isolate {before} ended: ")


@pytest.mark.parametrize(("misdeed", "flavour", "told"), cases(FAILS))
def test_whatever_a_handler_raises_is_an_answer_that_says_nothing_internal(server, neighbour, misdeed, flavour, told):
    before = pid_of(server, misdeed, flavour)
    seen = len(server.lines)
    answer = provoke(server, misdeed, flavour)
    code = 1102 if told.startswith(("CpuLimitExceeded", "MemoryError")) else 1101
    assert (answer.status_code, answer.text) == (500, f"error code: {code}")
    eventually(lambda: any(told in line for line in server.lines[seen:]))
    if misdeed != "grow":  # which may have been replaced for its size
        assert pid_of(server, misdeed, flavour) == before
    assert_frames_are_the_scripts(server.lines[seen:])


@pytest.mark.parametrize(("misdeed", "flavour", "told"), cases(GOES_ON))
def test_what_goes_wrong_beside_a_handler_leaves_the_worker_serving(server, neighbour, misdeed, flavour, told):
    before = pid_of(server, misdeed, flavour)
    seen = len(server.lines)
    with server.client() as client:
        # The same connection again: no second process has answered on it.
        answers = [client.get(f"/{path}", headers=host(misdeed, flavour)).text for path in (misdeed, "1", "2")]
    assert answers == [str(before)] * 3
    eventually(lambda: any(told in line for line in server.lines[seen:]))
    assert pid_of(server, misdeed, flavour) == before
    if misdeed != "task":  # asyncio itself tells of a task that nobody awaits
        assert_frames_are_the_scripts(server.lines[seen:])


@pytest.mark.parametrize(("misdeed", "flavour", "told"), cases(LEAKS))
def test_worker_that_has_used_up_its_memory_is_replaced_without_losing_requests(
    server, neighbour, misdeed, flavour, told
):
    before = pid_of(server, misdeed, flavour)
    assert provoke(server, misdeed, flavour).status_code == 500
    eventually(lambda: pid_of(server, misdeed, flavour) != before)
    server.wait_for(rf"isolate {before} is replaced: it uses \d+ of edge.memory_mb = 256 MB")


def assert_frames_are_the_scripts(lines):
    assert not [line for line in lines if "edge_runtime/" in line or "trio/_core" in line]
