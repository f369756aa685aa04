"""One worker, without ingress: succession, eviction, deploys."""

from __future__ import annotations

import math
import os
import re
import signal
from contextlib import asynccontextmanager

import pytest
import trio
from edge_process import PATIENCE_S
from fake_isolates import HELLO, RecordingReport, alive, exists, parent_of, write_worker

from edge_runtime.errors import ScriptError
from edge_runtime.limits import LOAD_ATTEMPTS_MAX
from edge_runtime.store.api import Batch
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.supervisor import backoff, template_handle
from edge_runtime.supervisor.data_dir import DataDirectory
from edge_runtime.supervisor.sources import read_version
from edge_runtime.supervisor.spawner import Spawner
from edge_runtime.supervisor.wakeups import Wakeups
from edge_runtime.supervisor.worker import Worker
from edge_runtime.supervisor.worker_records import WorkerState, WorkerUnavailable


@pytest.fixture
def supervise(zygote, tmp_path):
    """`async with supervise(script) as (worker, read)`; `read(script)` gives a further version."""

    @asynccontextmanager
    async def supervising(script, *, grace_s=0.2, idle_s=60.0, idle_grown_s=60.0, **config):
        report = RecordingReport()
        templates = Spawner(zygote, report.output, report.notice)
        numbers = iter(range(1000))

        async def read(script):
            folder = write_worker(tmp_path / f"v{next(numbers)}", script, **config)
            directory = DataDirectory(tmp_path / "data")
            return await read_version(folder, directory, (), report, environment=None, development=False)

        worker = Worker(
            await read(script), templates, report, grace_s=grace_s, idle_s=idle_s, idle_grown_s=idle_grown_s
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(templates.run)
            await nursery.start(worker.run)
            worker.report = report
            with trio.fail_after(PATIENCE_S):
                yield worker, read
            await worker.stop()
            nursery.cancel_scope.cancel()
        templates.close()

    return supervising


async def test_successor_owns_the_actors_once_the_old_isolate_has_released_them(supervise):
    async with supervise(HELLO, grace_s=2 * PATIENCE_S) as (worker, read):
        old = await worker.isolate()
        client, server_end = trio.socket.socketpair()
        await old.hand_over(server_end.fileno())
        server_end.close()
        await worker.replace(await read(HELLO + "#"))
        new = await worker.isolate()
        while worker.members.view.agreed != (new.number,):
            await trio.sleep(0.01)
        assert alive(old.pid)
        client.close()


async def test_successor_of_an_isolate_that_does_not_release_owns_the_actors_once_that_is_dead(supervise):
    script = "RELEASES = False\n" + HELLO
    async with supervise(script, grace_s=2 * PATIENCE_S) as (worker, read):
        for number in range(3):
            old = await worker.isolate()
            await worker.replace(await read(script + f"# {number}\n"))
            new = await worker.isolate()
            assert alive(old.pid)
            assert worker.members.view.agreed == (old.number,)
            old.kill("the test says so")
            while worker.members.view.agreed == (old.number,):
                await trio.sleep(0.005)
            assert not alive(old.pid)
            assert worker.members.view.agreed == (new.number,)
        worker.kill()


async def test_as_many_isolates_as_configured_take_connections_and_own_actors(supervise):
    async with supervise(HELLO, edge={"instances": 3}) as (worker, _):
        await worker.isolate()
        while len(worker.members.view.agreed) < 3:
            await trio.sleep(0.01)
        assert len({(await worker.isolate()).pid for _ in range(6)}) == 3
        assert len(worker.status().pids) == 3


async def test_dead_isolate_of_several_is_replaced_and_the_others_go_on(supervise):
    async with supervise(HELLO, edge={"instances": 2}) as (worker, _):
        first = await worker.isolate()
        while len(worker.members.view.agreed) < 2:
            await trio.sleep(0.01)
        second = next(it for it in [await worker.isolate(), await worker.isolate()] if it is not first)
        first.kill("the test says so")
        await first.dead.wait()
        while len(worker.members.view.agreed) < 2:
            assert await worker.isolate() is not first
            await trio.sleep(0.01)
        assert second.number in worker.members.view.agreed
        assert first.number not in worker.members.view.agreed
        assert alive(second.pid)


async def test_old_isolate_keeps_its_connections_while_the_new_one_takes_over(supervise):
    async with supervise(HELLO, grace_s=2 * PATIENCE_S) as (worker, read):
        old = await worker.isolate()
        client, server_end = trio.socket.socketpair()
        assert await old.hand_over(server_end.fileno())
        server_end.close()
        await worker.replace(await read(HELLO + "#"))
        new = await worker.isolate()
        assert new.pid != old.pid
        assert alive(old.pid)
        assert worker.status().retiring_pids == (old.pid,)
        await client.send(b"GET /late HTTP/1.1\r\n\r\n")
        answer = b""
        while data := await client.recv(65536):
            answer += data
        assert answer.endswith(b"hello /late")
        client.close()
        await old.dead.wait()
        assert old.killed_for is None
        assert alive(new.pid)


async def test_version_that_does_not_load_leaves_the_old_one_serving(supervise):
    async with supervise(HELLO) as (worker, read):
        old = await worker.isolate()
        with pytest.raises(ScriptError, match="no luck"):
            await worker.replace(await read("raise RuntimeError('no luck')"))
        assert await worker.isolate() is old
        assert worker.status().state is WorkerState.SERVING


async def test_template_of_a_replaced_version_ends_with_its_last_isolate(supervise):
    async with supervise(HELLO) as (worker, read):
        old = await worker.isolate()
        template = parent_of(old.pid)
        await worker.replace(await read(HELLO + "#"))
        await worker.isolate()
        while exists(template):
            await trio.sleep(0.01)


async def test_idle_isolate_is_evicted_and_started_again_on_demand(supervise):
    async with supervise(HELLO, idle_s=0.0) as (worker, _):
        isolate = await worker.isolate()
        await isolate.dead.wait()
        assert worker.asleep
        assert worker.status().state is WorkerState.IDLE
        assert worker.report.deaths == []
        assert (await worker.isolate()).pid != isolate.pid


GROWS = """
HELD = []

def __getattr__(name):
    if name == "BUSY_ACTORS":  # which is looked for with every answer to the supervisor
        HELD[:] = [bytearray(64 << 20)]
    raise AttributeError(name)
"""


async def test_an_idle_isolate_is_evicted_sooner_if_its_memory_has_grown(supervise):
    async with supervise(GROWS + HELLO, idle_grown_s=0.0) as (worker, _):
        isolate = await worker.isolate()
        await isolate.dead.wait()
        assert worker.asleep


async def test_an_idle_isolate_whose_memory_has_not_grown_has_its_time(supervise):
    async with supervise(HELLO, idle_grown_s=0.0) as (worker, _):
        isolate = await worker.isolate()
        while isolate.last_pong is None or isolate.last_pong.number < 2:
            await trio.sleep(0.01)
        assert not worker.asleep


@pytest.mark.parametrize("busy", ["BUSY_ACTORS = 1\n", "NEXT_DUE_MS = 0\n", "USED = True\n"])
async def test_isolate_with_actors_or_events_or_a_timer_soon_due_is_kept(supervise, busy):
    # Idle for no time at all is long enough here, and a timer that is due is soon due in any case.
    async with supervise(busy + HELLO, idle_s=0.0) as (worker, _):
        isolate = await worker.isolate()
        while isolate.last_pong is None:
            await trio.sleep(0.01)
        await trio.sleep(0.05)
        assert not worker.asleep
        assert await worker.isolate() is isolate


async def test_waiting_connections_learn_of_a_failed_start(supervise):
    async with supervise("def start(isolate): raise SystemExit(9)\n") as (worker, _):
        errors = []

        async def ask():
            try:
                await worker.isolate()
            except Exception as error:
                errors.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
        assert ["cannot start worker w" in str(error) for error in errors] == [True] * 3


STALLS = """
import os, pathlib, time

def stall():
    with open({file!r}, "x") as file:
        os.symlink(str(os.getpid()), {file!r} + ".pid")
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("starting", "pid"),
    [
        ("def start(isolate):\n    stall()\n", lambda pid: pid),
        ("def start(isolate):\n    stall()\n", parent_of),
        ("stall()\n", lambda pid: pid),
    ],
    ids=["isolate", "its template", "template that loads"],
)
async def test_start_that_is_killed_from_outside_is_repeated_while_connections_wait(supervise, tmp_path, starting, pid):
    file = tmp_path / "stalled"
    first_only = starting.replace("stall()", f"os.path.exists({str(file)!r}) or stall()")
    async with supervise(STALLS.format(file=str(file)) + first_only + HELLO) as (worker, _):
        got = []

        async def ask():
            got.append(await worker.isolate())

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ask)
            while not file.with_suffix(".pid").is_symlink():
                await trio.sleep(0.01)
            os.kill(pid(int(os.readlink(file.with_suffix(".pid")))), signal.SIGKILL)
        assert len({isolate.pid for isolate in got}) == 1
        assert worker.status().state is WorkerState.SERVING
        assert worker.report.failures == []
        (notice,) = worker.report.notices
        assert "w: it" in notice or "is gone" in notice
        assert notice.endswith("; it is tried again at once")


@pytest.mark.parametrize("where", ["", "def start(isolate):\n    "])
async def test_worker_whose_every_start_is_killed_has_failed(supervise, where, monkeypatch):
    monkeypatch.setattr(backoff, "CRASH_BACKOFF_FIRST_S", 1000.0)
    monkeypatch.setattr(backoff, "CRASH_BACKOFF_MAX_S", 1000.0)
    async with supervise(f"import os\n{where}os.kill(os.getpid(), 9)\n") as (worker, _):
        for _ in range(2):
            with pytest.raises(WorkerUnavailable, match=r"it was ended by SIGKILL \(out of memory\?\)"):
                await worker.isolate()
        assert worker.status().state is WorkerState.FAILED
        assert len(worker.report.notices) == 1
        assert len(worker.report.failures) == 1


async def test_deploy_whose_import_is_killed_from_outside_is_tried_again(supervise, tmp_path):
    file = tmp_path / "killed"
    kill_once = (
        f"import os\nif not os.path.exists({str(file)!r}):\n    os.mkdir({str(file)!r})\n    os.kill(os.getpid(), 9)\n"
    )
    async with supervise(HELLO) as (worker, read):
        old = await worker.isolate()
        await worker.replace(await read(kill_once + HELLO))
        assert (await worker.isolate()).pid != old.pid
        assert worker.report.failures == []
        (notice,) = worker.report.notices
        assert "it was ended by SIGKILL" in notice
        assert notice.endswith("; it is tried again at once")


async def test_deploy_whose_every_import_is_killed_from_outside_is_refused(supervise, monkeypatch):
    monkeypatch.setattr(backoff, "CRASH_BACKOFF_FIRST_S", 0.01)
    async with supervise(HELLO) as (worker, read):
        old = await worker.isolate()
        with pytest.raises(ScriptError, match="it was ended by SIGKILL"):
            await worker.replace(await read("import os\nos.kill(os.getpid(), 9)\n"))
        assert await worker.isolate() is old
        assert len(worker.report.notices) == LOAD_ATTEMPTS_MAX - 1


async def test_messages_that_are_none_of_an_isolates_cost_it_its_life(supervise):
    script = (
        "from edge_runtime.control import MakeTemplate\n"
        "def start(isolate):\n"
        "    isolate.channel.send_soon(isolate.task)\n" + HELLO
    )
    async with supervise(script) as (worker, _):
        with pytest.raises(Exception, match="sent what is no message"):
            await worker.isolate()


class Sleeper:
    """As much of a worker as wake-ups look at."""

    def __init__(self, name):
        self.name = name
        self.asleep = True
        self.woken = trio.Event()

    def wake(self):
        self.asleep = False
        self.woken.set()


class FixedClock:
    def __init__(self, now_ms):
        self.time_ms = now_ms

    def now_ms(self):
        return self.time_ms + int(trio.current_time() * 1000)


async def test_workers_with_due_timers_are_woken_and_others_are_not(autojump_clock):
    from edge_runtime.actors.api import ActorAddress, ActorKind
    from edge_runtime.actors.timers import wake

    store = MemoryStore()
    start_ms = 1_000_000
    clock = FixedClock(start_ms - int(trio.current_time() * 1000))
    batch = Batch()
    for worker, due_ms in (("past", start_ms - 5), ("soon", start_ms + 90_500), ("other", start_ms - 5)):
        wake(batch, ActorAddress(worker, ActorKind.OBJECT, "C", "0" * 64), due_ms, "t")
    await store.commit(batch)
    past, soon, never = Sleeper("past"), Sleeper("soon"), Sleeper("never")
    wakeups = Wakeups(store, clock, lambda: [past, soon, never])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wakeups.run)
        await trio.testing.wait_all_tasks_blocked()
        assert (past.asleep, soon.asleep) == (False, True)
        await soon.woken.wait()
        assert 0 <= clock.now_ms() - (start_ms + 90_500) < 100
        assert never.asleep
        nursery.cancel_scope.cancel()


async def test_import_that_takes_long_is_told_with_the_line_where_it_is(supervise, monkeypatch, tmp_path):
    monkeypatch.setattr(template_handle, "STARTUP_TOLD_S", math.inf)
    begun, go = tmp_path / "begun", tmp_path / "go"
    waiting = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\n"
    waiting += f"while not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.01)\n"
    async with supervise(waiting + HELLO) as (worker, _), trio.open_nursery() as nursery:
        nursery.start_soon(worker.isolate)
        while not begun.exists():
            await trio.sleep(0.01)
        monkeypatch.setattr(template_handle, "STARTUP_TOLD_S", 0.0)
        while not (told := [notice for notice in worker.report.notices if "importing the script has" in notice]):
            await trio.sleep(0.01)
        go.touch()
    assert "; it is here, the innermost call last:\n" in told[0]
    assert re.search(rf'{tmp_path}/v0/.*\.py", line [34], in <module>', told[0])
