"""The bill against the kernel: CPU time of busy loops wherever code of a script can run, and none of waiting.

What a script measured itself, by the clocks of the threads that it ran on, is compared with what it was charged. How
long anything took says nothing here.
"""

import re
import time
from dataclasses import dataclass

import pytest
import trio
from edge_process import PATIENCE_S, EdgeProcess, eventually
from script_workers import FLAVOURS, SCRIPTS, write_worker
from websocket_client import connected

from edge_runtime.metering.grouping import group_rows
from edge_runtime.metering.ledger import read_usage
from edge_runtime.store.lmdb_store import open_store
from edge_runtime.supervisor.admin_client import run_scheduled

BURN_NS = 60_000_000
ERROR_SHARE = 0.02
ERROR_US = 200
WAIT_US = 1000
ENTRY = """
import time

begun_ns = time.thread_time_ns()

import metering
from metering import Default, Flow, Made, Remote, Undone, Work

while time.thread_time_ns() - begun_ns < 5 * metering.BURN_NS:
    pass
metering.report("import", time.thread_time_ns() - begun_ns)
"""
WAITS = {"sleep": 1, "naps": 20, "blocked": 1, "blocked_thread": 5, "asks": 1}
"""How often each waits."""
CALLS = (
    "nothing", "plain", "sync", "slices", "children", "in_thread", "thread", "inner_thread", "raw_thread", "pooled",
    "pooled_again", "process", "blocking", "transaction", "later", "left_task", "callbacks", "generator",
    "closed_generator", "finalizer", "by_hand",
)  # fmt: skip
FETCHES = ("fetch", "stream", "pull", "wsgi", "asgi")
SOCKETS = ("socket", "listening", "hibernating")
ROWS = {
    **{place: ("rpc", f"Work.{place}") for place in (*WAITS, *CALLS)},
    "constructor": ("rpc", "Made.constructor"),
    "Remote.call": ("rpc", "Remote.call"),
    "Remote.fetch": ("fetch", "Remote.fetch"),
    "websocket Default.fetch": ("websocket", "Default.fetch"),
    "websocket Work.fetch": ("websocket", "Work.fetch"),
    "webSocketMessage": ("websocket", "Work.webSocketMessage"),
    "alarm": ("alarm", "Work.alarm"),
    "scheduled": ("scheduled", "Default.scheduled"),
    "flow": ("workflow", "flow"),
    "flow/async step": ("step", "flow/async step"),
    "flow/sync step": ("step", "flow/sync step"),
    "undone/step": ("step", "undone/step"),
}
"""Kind and handler in the ledger, by what the script calls a place. Fetches share a row: they are told apart in the
log."""
IMPORT = ("startup", "import")
BURNING = tuple(place for place in (*FETCHES, *ROWS) if place not in (*WAITS, "nothing"))
TIMES = 2
pytestmark = pytest.mark.timeout(400)  # the first test waits for a server to do everything


@dataclass(frozen=True)
class Found:
    """Of one place: what the script measured, what it was charged, and for how many events."""

    known_us: float = 0
    charged_us: int = 0
    events: int = 0

    def __sub__(self, other):
        return Found(self.known_us - other.known_us, self.charged_us - other.charged_us, self.events - other.events)


class Accounts:
    """Every place of one flavour twice: without the loop, for what is done once, and with it. `found` is of the second
    time."""

    def __init__(self, root, flavour):
        folder = write_worker(
            root / "metering",
            ENTRY,
            {f"src/{name}": (SCRIPTS / name).read_text() for name in ("metering.py", "own_clock.py")},
            compatibility_flags=["python_workers"] if flavour == "asyncio" else [],
            compatibility_date="2026-01-01",
            vars={"FLAVOUR": flavour, "BURN_NS": BURN_NS},
            durable_objects={
                "bindings": [{"name": "WORK", "class_name": "Work"}, {"name": "MADE", "class_name": "Made"}]
            },
            migrations=[{"tag": "v1", "new_sqlite_classes": ["Work", "Made"]}],
            triggers={"crons": ["0 0 1 1 *"]},
            workflows=[
                {"name": "flow", "binding": "FLOW", "class_name": "Flow"},
                {"name": "undone", "binding": "UNDONE", "class_name": "Undone"},
            ],
        )
        self._data = root / "data"
        # With time to write the last of its usage, however slow the disk.
        with EdgeProcess("run", folder, "--port", 0, "--data", self._data, "--grace-s", PATIENCE_S) as edge:
            started_s = time.monotonic()
            self._edge = edge.wait_ready()
            with edge.client() as self._client:
                self._go_everywhere()
                self._known_us(1)
                idle = eventually(lambda: self._charged(1))
                idle_known_us = self._known_us(1)
                assert self._client.post("/loop").status_code == 200
                self._go_everywhere()
                known_us = self._known_us(2)
            assert edge.interrupt() == 0
            self.lasted_s = time.monotonic() - started_s
        self.usage = list(group_rows(self._usage(), ("worker", "product", "kind", "handler")).values())
        charged = self._charged(2)
        self.found = {
            place: Found(known_us[place], *charged[place]) - Found(idle_known_us[place], *idle[place])
            for place in charged
        }
        (imported,) = [row for row in self.usage if (row.kind, row.name) == IMPORT]
        self.found["import"] = Found(known_us["import"], imported.cpu_us, imported.events)

    def _go_everywhere(self):
        for place in (*FETCHES, *WAITS, *CALLS, "made", "remote", "flow", "undone", "later_alarm"):
            answer = self._client.get(f"/{place}")
            assert answer.status_code == 200, f"{place}: {answer.text}"
        for target in SOCKETS:
            trio.run(self._message, f"/{target}")
        run_scheduled(self._data, "metering", "0 0 1 1 *", 0)

    async def _message(self, target):
        async with connected(self._edge.port, target) as client:
            await client.send("hello")
            assert await client.receive() == "hell\u00f6"

    def _known_us(self, times):
        """What the script measured by place, when it has been everywhere so often."""

        def complete():
            known = self._client.get("/known").json()
            return known if all(known.get(place, (0, 0))[1] >= times for place in (*FETCHES, *ROWS)) else None

        return {place: known_ns / 1000 for place, (known_ns, _) in eventually(complete).items()}

    def _charged(self, times):
        """What was charged by place and for how many events, when it was for so many everywhere."""
        charged = {}
        for place in FETCHES:
            lines = re.findall(rf"fetch Default.fetch GET /{place} 200 \((\d+) us CPU", self._edge.output)
            charged[place] = sum(map(int, lines)), len(lines)
        usage = self._usage()
        for place, row in ROWS.items():
            mine = [found for found in usage if (found.kind, found.name) == row]
            charged[place] = sum(found.cpu_us for found in mine), sum(found.events for found in mine)
        return charged if all(events >= times for _, events in charged.values()) else None

    def _usage(self):
        async def read():
            async with open_store(self._data / "store", readonly=True) as store:
                with store.snapshot() as snapshot:
                    return read_usage(snapshot)

        return trio.run(read)


@pytest.fixture(scope="module", params=FLAVOURS)
def accounts(request, tmp_path_factory):
    return Accounts(tmp_path_factory.mktemp("metering"), request.param)


@pytest.mark.parametrize("place", BURNING)
def test_known_cpu_time_is_charged_wherever_it_is_used(accounts, place):
    found = accounts.found[place]
    assert found.events >= 1
    assert found.known_us >= 0.99 * BURN_NS / 1000
    assert abs(found.charged_us - found.known_us) <= max(ERROR_US, ERROR_SHARE * found.known_us)


@pytest.mark.parametrize("place", WAITS)
def test_wait_costs_no_cpu_time(accounts, place):
    found = accounts.found[place]
    assert found.events == 1
    assert found.charged_us - found.known_us <= WAIT_US * WAITS[place]


def test_messages_of_sockets_and_the_time_objects_are_active_are_counted(accounts):
    by_name = {row.name: row for row in accounts.usage if row.product == "object"}
    messages = by_name["Work.webSocketMessage"]
    assert messages.quantities["websocket_bytes_in"] == messages.events * len("hello")
    assert messages.quantities["websocket_bytes_out"] == messages.events * len("hell\u00f6".encode())
    asleep = by_name["Work.sleep"]
    assert asleep.quantities["active_us"] == pytest.approx(asleep.wall_ms * 1000, rel=0.02)
    assert sum(row.quantities.get("active_us", 0) for row in by_name.values()) <= accounts.lasted_s * 1e6


def test_totals_are_the_sum_of_the_events(accounts):
    by_name = {row.name: row for row in accounts.usage}
    assert not any(row.errors for row in accounts.usage if row.kind == "fetch")
    assert by_name["Work.sleep"].wall_ms >= 100 * TIMES
    assert by_name["Work.plain"].events == by_name["flow/sync step"].events == TIMES
