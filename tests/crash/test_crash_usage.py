"""Usage after kill -9: nothing that was acknowledged is missing from it, and nothing counts twice."""

import random
import threading
import time
from collections import Counter

import httpx2
import pytest
from crash_server import WORKERS, CrashServer
from edge_process import PATIENCE_S, EdgeProcess, eventually

from edge_runtime.cli.usage_now import usage_now
from edge_runtime.metering.grouping import group_rows

ROUNDS = 5
CLIENTS = 4
KINDS = ("plain", "object", "later", "stream", "failed", "flow")
STEPS = 4


class Client:
    """Does everything in turn until the server is gone; knows what it has sent, and what was answered."""

    def __init__(self):
        self.sent = Counter()
        self.acknowledged = Counter()
        self.flows = []

    def run(self, server):
        with server.edge.client() as client:
            number = 0
            while True:
                kind = KINDS[number % len(KINDS)]
                number += 1
                self.sent[kind] += 1
                try:
                    answer = client.post(f"/{kind}")
                except httpx2.HTTPError:
                    return
                assert answer.status_code == (500 if kind == "failed" else 200), answer.text
                self.acknowledged[kind] += 1
                if kind == "flow":
                    self.flows.append(answer.text)


@pytest.fixture
def server(tmp_path):
    server = CrashServer(WORKERS / "billed", tmp_path / "data")
    yield server
    server.close()


def test_what_was_acknowledged_is_in_the_usage_however_often_the_server_is_killed(server):
    moments = random.Random(5)
    clients = [Client() for _ in range(CLIENTS)]
    for round in range(ROUNDS):
        server.start()
        family = server.edge.family()
        threads = [threading.Thread(target=client.run, args=(server,)) for client in clients]
        for thread in threads:
            thread.start()
        if round == ROUNDS - 1:
            # However slow the machine, each kind was acknowledged to somebody before the last kill.
            eventually(lambda: all(any(each.acknowledged[kind] for each in clients) for kind in KINDS), every_s=0.01)
        time.sleep(moments.uniform(0.05, 0.4))
        server.kill(family)
        for thread in threads:
            thread.join()
    sent = sum((client.sent for client in clients), Counter())
    acknowledged = sum((client.acknowledged for client in clients), Counter())
    flows = [flow for client in clients for flow in client.flows]
    assert set(acknowledged) == set(KINDS)
    rows = used(server)
    assert sum(acknowledged.values()) <= rows["Default.fetch"].events <= sum(sent.values())
    assert acknowledged["failed"] <= rows["Default.fetch"].errors["exception"] <= sent["failed"]

    # Started again, the server adds what it was killed with, and finishes what it had begun.
    again = ("run", WORKERS / "billed", "--port", 0, "--data", server.data, "--grace-s", PATIENCE_S)
    with EdgeProcess(*again).wait_ready() as edge, edge.client() as client:
        count = client.get("/").json()["count"]
        eventually(lambda: set(client.post("/ended", json=flows).json()) == {"complete"})
        assert edge.interrupt() == 0  # with time to write the last of its usage, however slow the disk
    after = used(server)
    assert acknowledged["object"] <= count <= after["Tally.add"].events <= sent["object"]
    assert after["Tally.add"].quantities["rows_written"] >= count
    for number in range(STEPS):
        # A step that was cut off is run, and billed, again.
        assert len(flows) <= after[f"flow/step {number}"].events <= sent["flow"] + ROUNDS * CLIENTS
    assert len(flows) * STEPS <= after["flow"].quantities["steps"]
    assert len(flows) <= after["flow"].quantities["executions"] <= sent["flow"] + ROUNDS * CLIENTS
    assert not list((server.data / "usage").iterdir())


def used(server):
    """By handler; all there is, with what isolates that were killed have left behind."""
    by_handler = group_rows(usage_now(server.data, None, None, None), ("worker", "product", "kind", "handler"))
    return {row.name: row for row in by_handler.values()}
