"""Several isolates, killed, stopped, replaced: no object is ever live in two of them, no acknowledged write is lost."""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from edge_process import EdgeProcess, descendants, eventually

from edge_runtime.supervisor import admin_client

SCRIPT = """
import os
import time
from workers import DurableObject, Response, WorkerEntrypoint


class Ledger(DurableObject):
    def __init__(self, ctx, env):
        super().__init__(ctx, env)
        self.epoch = None

    async def add(self, token):
        began = time.monotonic_ns()
        epochs = await self.ctx.storage.get("epochs") or 0
        if self.epoch is None:
            self.epoch = epochs + 1
            await self.ctx.storage.put("epochs", self.epoch)
        elif epochs != self.epoch:
            return f"another one is live: epoch {epochs}, mine {self.epoch}"
        count = await self.ctx.storage.get("count") or 0
        mark = [self.epoch, os.getpid(), began, time.monotonic_ns(), token]
        self.ctx.storage.put({"count": count + 1, f"mark/{count:08}": mark})
        return count

    async def marks(self):
        return list((await self.ctx.storage.list(prefix="mark/")).values())


class Default(WorkerEntrypoint):
    async def fetch(self, request):
        _, name, token = request.url.rsplit("/", 2)
        ledger = self.env.LEDGERS.getByName(name)
        return Response.json(await (ledger.marks() if token == "marks" else ledger.add(token)))
"""
NAMES = [f"n{number}" for number in range(12)]


def write_worker(folder, version, **settings):
    folder.mkdir(exist_ok=True)
    (folder / "entry.py").write_text(SCRIPT + f"# {version}\n")
    config = {
        "name": "ledgers",
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "durable_objects": {"bindings": [{"name": "LEDGERS", "class_name": "Ledger"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Ledger"]}],
        "edge": {"instances": 3, **settings},
    }
    (folder / "wrangler.json").write_text(json.dumps(config))
    return folder


def isolates(edge):
    found = []
    for pid in descendants(edge.process.pid):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "edge-isolate":
                found.append(pid)
        except OSError:
            pass  # it has just ended
    return found


class Load:
    """Clients that add to objects until told to stop; each attempt has a token of its own."""

    def __init__(self, edge, seed, clients=4):
        self.acknowledged = []
        self.failures = Counter()
        self.violations = []
        self._edge = edge
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(f"{seed}.{n}",)) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, seed):
        chance = random.Random(seed)
        number = 0
        while not self._stop.is_set():
            with self._edge.client() as client:
                # A connection stays with its isolate; a new one now and then reaches another.
                for _ in range(chance.randrange(1, 20)):
                    number += 1
                    name, token = chance.choice(NAMES), f"{seed}.{number}"
                    try:
                        answer = client.get(f"/{name}/{token}")
                    except httpx2.TransportError as error:
                        self.failures[type(error).__name__] += 1
                        break
                    if answer.status_code != 200:
                        self.failures[answer.status_code] += 1
                    elif isinstance(answer.json(), str):
                        self.violations.append(answer.json())
                    else:
                        self.acknowledged.append((name, token))


def signal_one(edge, chance, number):
    try:
        pid = chance.choice(isolates(edge))
        os.kill(pid, number)
    except (ProcessLookupError, IndexError):
        return None  # it has ended meanwhile
    return pid


def check(edge, load):
    assert load.violations == []
    assert load.acknowledged
    found = set()
    for name in NAMES:
        last_end, last_epoch, pids = 0, 0, {}
        for epoch, pid, began, ended, token in eventually(lambda name=name: marks_of(edge, name)):
            assert epoch >= last_epoch, f"{name}: epoch {epoch} wrote after {last_epoch}"
            if epoch > last_epoch:
                assert began > last_end, f"{name}: epoch {epoch} began before {last_epoch} had ended"
            last_epoch, last_end = epoch, max(last_end, ended)
            assert pids.setdefault(epoch, pid) == pid
            assert (name, token) not in found
            found.add((name, token))
    assert set(load.acknowledged) <= found


def marks_of(edge, name):
    try:
        with edge.client() as client:
            answer = client.get(f"/{name}/marks")
    except httpx2.HTTPError:
        return None  # it went to an isolate that was stopped before, and killed for it now
    return answer.status_code == 200 and answer.json()


@pytest.mark.slow
def test_no_object_is_live_twice_while_isolates_are_killed_stopped_and_replaced(tmp_path):
    chance = random.Random(7)
    soon = {"blocked_ms": 1000}
    folder = write_worker(tmp_path / "w", 0, **soon)
    data = tmp_path / "data"
    with EdgeProcess("run", "--port", 0, "--data", data) as edge:
        edge.wait_ready()
        admin_client.deploy(data, folder)
        with Load(edge, "chaos") as load:
            until = time.monotonic() + 14
            version = 0
            while time.monotonic() < until:
                match chance.choice(["kill", "kill", "pause", "freeze", "deploy", "deploys"]):
                    case "kill":
                        signal_one(edge, chance, signal.SIGKILL)
                    case "pause" if (pid := signal_one(edge, chance, signal.SIGSTOP)) is not None:
                        time.sleep(0.3)
                        try:
                            os.kill(pid, signal.SIGCONT)
                        except ProcessLookupError:
                            pass  # killed as blocked
                    case "freeze":
                        signal_one(edge, chance, signal.SIGSTOP)
                    case "deploy":
                        version += 1
                        admin_client.deploy(data, write_worker(folder, version, **soon))
                    case "deploys":
                        folders = [write_worker(tmp_path / f"w{n}", f"{version} {n}", **soon) for n in range(2)]
                        threads = [threading.Thread(target=admin_client.deploy, args=(data, it)) for it in folders]
                        for thread in threads:
                            thread.start()
                        for thread in threads:
                            thread.join()
                time.sleep(chance.random() * 0.5)
        check(edge, load)


@pytest.mark.slow
def test_deploys_under_load_lose_no_acknowledged_write_and_answer_none_with_an_error(tmp_path):
    data = tmp_path / "data"
    folder = write_worker(tmp_path / "w", 0)
    with EdgeProcess("run", "--port", 0, "--data", data) as edge:
        edge.wait_ready()
        admin_client.deploy(data, folder)
        with Load(edge, "deploys") as load:
            for version in range(1, 5):
                time.sleep(0.5)
                admin_client.deploy(data, write_worker(folder, version))
            time.sleep(0.5)
        check(edge, load)
        # A kept connection may be closed just as its client sends the next request.
        assert set(load.failures) <= {"RemoteProtocolError", "ReadError", "WriteError"}
