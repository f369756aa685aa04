"""Usage after kill -9: what was written is there, commits of other things took along what had ended, nothing twice."""

import threading

import pytest
import trio
from crash_server import WORKERS, CrashServer
from edge_process import eventually

from edge_runtime.metering.ledger import read_usage
from edge_runtime.store.lmdb_store import open_store

EVENTS = 50


async def usage(data):
    async with open_store(data / "store", readonly=True) as store:
        with store.snapshot() as snapshot:
            return {row.name: row for row in read_usage(snapshot)}


@pytest.fixture
def server(tmp_path):
    server = CrashServer(WORKERS / "ledger", tmp_path / "data")
    server.start()
    yield server
    server.close()


def test_usage_survives_being_killed_and_is_never_counted_twice(server):
    acknowledged = 0

    def write(count):
        nonlocal acknowledged
        with server.edge.client() as client:
            for _ in range(count):
                assert client.post("/awaited", content=f"key {acknowledged}").status_code == 200
                acknowledged += 1

    def written():
        rows = trio.run(usage, server.data)
        return rows["Tally.add"].events if "Tally.add" in rows else 0

    write(EVENTS)
    eventually(lambda: written() == EVENTS, 60)
    over = threading.Event()

    def go_on():
        while not over.is_set():
            write(1)

    writer = threading.Thread(target=go_on)
    writer.start()
    # While commits follow each other, usage is not behind by more than a few of them.
    eventually(lambda: written() >= 2 * EVENTS, 60)
    over.set()
    writer.join()
    server.kill()
    before = trio.run(usage, server.data)
    assert 2 * EVENTS <= before["Tally.add"].events <= acknowledged
    assert before["Tally.add"].quantities["rows_written"] == 2 * before["Tally.add"].events
    assert before["Tally.add"].cpu_us > 0
    server.start()
    write(EVENTS)
    expected = before["Tally.add"].events + EVENTS
    eventually(lambda: written() == expected, 60)
    after = trio.run(usage, server.data)
    assert after["Tally.add"].quantities["rows_written"] == 2 * expected
