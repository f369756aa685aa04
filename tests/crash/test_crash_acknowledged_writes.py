"""Clients write while everything is killed at random: what was acknowledged to them is there afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random

import httpx2
import pytest
from crash_server import WORKERS, CrashServer, kill_at_sync, process_named
from crash_store import assert_sound
from edge_process import PATIENCE_S, eventually

ROUNDS = 12
CLIENTS = 4
WRITTEN_MIN = 4
"""So many are acknowledged in every other life at least, however slow the disk."""


class LedgerClients:
    """Clients that write keys of their own, one after the other, and remember what they were told."""

    def __init__(self, server: CrashServer) -> None:
        self.server = server
        self.sent: set[str] = set()
        self.acknowledged: dict[str, int] = {}
        self._series = 0

    def answers(self) -> bool:
        with self.server.edge.client() as client:
            try:
                return client.get("/").status_code == 200
            except httpx2.HTTPError:
                return False

    def write_until(self, kill: Callable[[], None]) -> None:
        """Write from several threads until `kill` has done its work."""
        self._series += 1
        series, edge = self._series, self.server.edge
        killed = threading.Event()
        # A busy machine takes longer to make a client than the server lives.
        made = threading.Barrier(CLIENTS + 1)

        def write(name: int) -> None:
            with edge.client() as client:
                made.wait(PATIENCE_S)
                for number in count():
                    if killed.is_set():
                        return
                    key = f"{series}-{name}-{number}"
                    self.sent.add(key)
                    try:
                        answer = client.post("/awaited" if number % 2 else "/gated", content=key)
                    except httpx2.HTTPError:
                        return  # killed; whether it was written, nobody has said
                    assert answer.status_code == 200, answer.text
                    self.acknowledged[key] = answer.json()["count"]

        threads = [threading.Thread(target=write, args=(name,)) for name in range(CLIENTS)]
        for thread in threads:
            thread.start()
        made.wait(PATIENCE_S)
        try:
            kill()
        finally:
            killed.set()
            for thread in threads:
                thread.join()

    def assert_nothing_lost(self) -> None:
        with self.server.edge.client() as client:
            found = client.get("/").json()
        assert self.acknowledged.keys() <= found["entries"].keys() <= self.sent
        assert all(value == f"value of {key}" for key, value in found["entries"].items())
        keys = found["keys"]
        assert self.acknowledged.items() <= keys.items()
        assert keys.keys() <= found["entries"].keys(), "the object was written before the entry that comes first"
        # Count and key are one write: all or nothing, each once.
        assert sorted(keys.values()) == list(range(1, found["count"] + 1))


@pytest.fixture
def clients(server):
    return LedgerClients(server(WORKERS / "ledger"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_acknowledged_write_is_lost_when_everything_is_killed(clients):
    random = Random(7)
    server = clients.server

    def kill(life: int) -> None:
        acknowledged = len(clients.acknowledged)
        if life % 2:
            eventually(lambda: len(clients.acknowledged) >= acknowledged + WRITTEN_MIN, every_s=0.005)
        time.sleep(random.uniform(0.05, 0.4))
        server.kill(family)

    for life in range(ROUNDS):
        family = server.start().family()
        clients.assert_nothing_lost()
        clients.write_until(partial(kill, life))
    server.start()
    clients.assert_nothing_lost()
    server.kill()
    assert_sound(server.data)
    print(f"{server.kills} kills, {len(clients.sent)} writes, {len(clients.acknowledged)} acknowledged")
    assert len(clients.acknowledged) >= WRITTEN_MIN * ROUNDS // 2


@pytest.mark.slow
@pytest.mark.needs("ptrace")
@pytest.mark.parametrize("k", [1, 2, 8])
def test_no_acknowledged_write_is_lost_when_an_isolate_dies_holding_the_write_lock(clients, k):
    edge = clients.server.start()

    def kill() -> None:
        assert sync.killed(PATIENCE_S)

    with kill_at_sync(process_named(edge, "edge-isolate"), k) as sync:
        clients.write_until(kill)
    eventually(clients.answers)
    clients.assert_nothing_lost()
    clients.write_until(clients.server.kill)
    assert_sound(clients.server.data)
