"""The bill against the kernel: CPU time of busy loops wherever code of a script can run, and none of waiting."""

import json
import re
import time

import pytest
import trio
from edge_process import PATIENCE_S, EdgeProcess
from script_workers import FLAVOURS, SCRIPTS, edge_command, write_worker
from websocket_client import connected

from edge_runtime.metering.ledger import read_usage
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.supervisor.admin_client import run_scheduled

ROUNDS = 2
BURN_NS = 60_000_000
SETTLED_S = PATIENCE_S
CALLS = (
    "nothing", "sleep", "blocked", "plain", "slices", "children", "in_thread", "thread", "raw_thread", "pooled",
    "process", "later", "left_task", "generator", "closed_generator", "finalizer",
)  # fmt: skip
WAITS = ("sleep", "blocked")
FETCHES = ("fetch", "stream", "wsgi")
ROWS = {
    **{f"Work.{way}": way for way in CALLS},
    "Work.webSocketMessage": "webSocketMessage",
    "Work.alarm": "alarm",
    "Default.scheduled": "scheduled",
    "flow": "flow",
    "flow/async step": "flow/async step",
    "flow/sync step": "flow/sync step",
}
"""What the script calls a way, by the name of its row in the ledger."""
pytestmark = pytest.mark.timeout(400)  # the first test waits for a server to do everything

BURNING = tuple(way for way in (*FETCHES, *ROWS.values()) if way not in (*WAITS, "nothing"))


class Accounts:
    """Every way of one flavour, once to warm up and then ROUNDS times: by way, what the script measured in these, what
    was charged for it, and for how many events."""

    def __init__(self, root, flavour):
        write_worker(
            root / "metering",
            (SCRIPTS / "metering.py").read_text(),
            compatibility_flags=["python_workers"] if flavour == "asyncio" else [],
            compatibility_date="2026-01-01",
            vars={"FLAVOUR": flavour},
            durable_objects={"bindings": [{"name": "WORK", "class_name": "Work"}]},
            migrations=[{"tag": "v1", "new_sqlite_classes": ["Work"]}],
            triggers={"crons": ["0 0 1 1 *"]},
            workflows=[{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
        )
        self._data = root / "data"
        self._rounds = 0
        with EdgeProcess("dev", root / "metering", "--port", 0, "--data", self._data, "--no-reload") as edge:
            started_s = time.monotonic()
            self._edge = edge.wait_ready()
            self._run(1)
            first = self._look()
            self._run(ROUNDS)
            idle = self._look()
            self._run(ROUNDS, BURN_NS)
            busy = self._look()
            assert edge.interrupt() == 0
            self.lasted_s = time.monotonic() - started_s
        self.found = {}
        for way, now in busy.items():
            known_us, charged_us, events = (after - before for after, before in zip(now, idle[way], strict=True))
            without_us = idle[way][1] - first[way][1]
            self.found[way] = known_us - (idle[way][0] - first[way][0]), charged_us - without_us, events, without_us
        self.usage = trio.run(self._usage)
        self.rows = json.loads(edge_command("usage", "--data", self._data, "--json"))

    def _run(self, rounds, burn_ns=0):
        with self._edge.client() as client:
            assert client.post("/burn", content=str(burn_ns)).status_code == 200
            for _ in range(rounds):
                for way in (*FETCHES, *CALLS, "later_alarm", "flow"):
                    answer = client.get(f"/{way}")
                    assert answer.status_code == 200, answer.text
                trio.run(self._message)
                run_scheduled(self._data, "metering", "0 0 1 1 *", 0)
        self._rounds += rounds

    def _look(self):
        """What has been measured and charged, when all of it has; or after SETTLED_S, whatever there is."""
        deadline = time.monotonic() + SETTLED_S
        while True:
            with self._edge.client() as client:
                found = self._compare(client.get("/known").json())
            settled = all(
                events >= self._rounds and charged_us >= 0.95 * known_us
                for known_us, charged_us, events in found.values()
            )
            if settled or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    async def _message(self):
        async with connected(self._edge.port, "/socket") as client:
            await client.send("hello")
            assert await client.receive() == "hell\u00f6"

    def _compare(self, known_ns):
        found = {}
        for way in FETCHES:
            lines = re.findall(rf"fetch Default.fetch GET /{way} 200 \((\d+) us CPU", self._edge.output)
            found[way] = known_ns.get(way, 0) / 1000, sum(map(int, lines)), len(lines)
        rows = trio.run(self._usage)
        for name, way in ROWS.items():
            mine = [row for row in rows if row.name == name]
            charged_us, events = sum(row.cpu_us for row in mine), sum(row.events for row in mine)
            found[way] = known_ns.get(way, 0) / 1000, charged_us, events
        return found

    async def _usage(self):
        async with open_store(self._data / "store", readonly=True) as store:
            with store.snapshot() as snapshot:
                return read_usage(snapshot)


@pytest.fixture(scope="module", params=FLAVOURS)
def accounts(request, tmp_path_factory):
    return Accounts(tmp_path_factory.mktemp("metering"), request.param)


@pytest.mark.parametrize("way", BURNING)
def test_known_cpu_time_is_charged_wherever_it_is_used(accounts, way):
    known_us, charged_us, events, _ = accounts.found[way]
    assert events == ROUNDS
    # What is around the loop is taken off as it was without it, and differs on a machine that is busy with something
    # else. What is charged twice or not at all would be as much again.
    assert abs(charged_us - known_us) <= 0.3 * known_us


@pytest.mark.parametrize("way", WAITS)
def test_wait_costs_no_cpu_time(accounts, way):
    *_, events, charged_us = accounts.found[way]
    assert events == ROUNDS
    assert charged_us < 20_000 * events  # of the 50,000 and more that are waited


def test_messages_of_sockets_and_the_time_objects_are_active_are_counted(accounts):
    by_name = {row.name: row for row in accounts.usage if row.product == "object"}
    messages = by_name["Work.webSocketMessage"]
    assert messages.quantities["websocket_bytes_in"] == messages.events * len("hello")
    assert messages.quantities["websocket_bytes_out"] == messages.events * len("hell\u00f6".encode())
    asleep = by_name["Work.sleep"]
    assert asleep.quantities["active_us"] == pytest.approx(asleep.wall_ms * 1000, rel=0.02)
    assert sum(row.quantities.get("active_us", 0) for row in by_name.values()) <= accounts.lasted_s * 1e6


def test_totals_are_the_sum_of_the_events(accounts):
    by_name = {row["handler"]: row for row in accounts.rows}
    fetches = by_name["Default.fetch"]
    assert fetches["errors"] == 0
    assert by_name["Work.sleep"]["wall_ms"] >= 100 * (2 * ROUNDS + 1)
    assert by_name["Work.plain"]["events"] == by_name["flow/sync step"]["events"] == 2 * ROUNDS + 1
