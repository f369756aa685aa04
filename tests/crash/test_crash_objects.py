"""SIGKILL during load on many objects: no acknowledged increment is lost, and none is counted twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx2
import pytest
from edge_process import PATIENCE_S, EdgeProcess, plain_client

WORKER = Path(__file__).parent / "object_worker"
OBJECTS = 100
CLIENTS = 6
ROUNDS = 50
SEED = 20


class Clients:
    """Each counts marks of its own, again and again until it is told the value."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, dict[str, int]] = {f"tally-{number}": {} for number in range(OBJECTS)}
        self.repeated = 0
        self.over = threading.Event()
        self._url = ""

    def aim(self, edge: EdgeProcess) -> None:
        self._url = edge.url

    def count(self, name: int) -> None:
        random = Random(SEED * 1000 + name)
        number = 0
        while not self.over.is_set():
            number += 1
            self._until_acknowledged(f"tally-{random.randrange(OBJECTS)}", f"{name}-{number}")

    def _until_acknowledged(self, tally: str, mark: str) -> None:
        while True:
            try:
                with plain_client(self._url) as client:
                    answer = client.post(f"/{tally}", params={"mark": mark})
            except httpx2.HTTPError:
                self.repeated += 1  # killed; whether it was counted, nobody has said
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                self.acknowledged[tally][mark] = answer.json()["value"]
                return
            assert answer.status_code in (502, 503), (answer.status_code, answer.text)
            time.sleep(0.02)

    def compare(self, edge: EdgeProcess) -> int:
        """Check every object against what clients were told; how many increments there are."""
        with edge.client() as client:
            for tally, told in self.acknowledged.items():
                stored = client.get(f"/{tally}").json()
                assert stored["marks"] == told
                assert stored["value"] == len(told)
                assert sorted(told.values()) == list(range(1, len(told) + 1))
        return sum(map(len, self.acknowledged.values()))


def start(data: Path) -> EdgeProcess:
    return EdgeProcess("dev", WORKER, "--port", 0, "--data", data, "--no-reload", "--quiet").wait_ready()


@pytest.mark.timeout(900)
def test_no_increment_is_lost_or_counted_twice_however_often_processes_are_killed(tmp_path):
    random = Random(SEED)
    clients = Clients()
    edge = start(tmp_path / "data")
    clients.aim(edge)
    threads = [threading.Thread(target=clients.count, args=(name,)) for name in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        for number in range(ROUNDS):
            acknowledged = sum(map(len, clients.acknowledged.values()))
            deadline = time.monotonic() + PATIENCE_S
            while sum(map(len, clients.acknowledged.values())) < acknowledged + 5:
                assert time.monotonic() < deadline, f"round {number}: nothing is acknowledged\n{edge.output}"
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.1))
            # A third crash within a minute would have the supervisor wait, which is not the question here.
            if number % 3 < 2 and len(family := edge.family()) > 3:
                with suppress(ProcessLookupError):
                    os.kill(max(family, key=started), signal.SIGKILL)
            else:
                edge.kill()
                edge = start(tmp_path / "data")
                clients.aim(edge)
    finally:
        clients.over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    try:
        assert clients.compare(edge) >= 5 * ROUNDS
        assert clients.repeated > 0
        assert not any(thread.is_alive() for thread in threads)
    finally:
        edge.kill()


def started(pid: int) -> int:
    """When a process began, in the kernel's ticks; an isolate is the youngest of its family."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return -1  # it has just ended
