"""How much CPU time is used, and charged, beyond the limit before an event that runs away is stopped?

Each time in a worker of its own, so that nothing else is charged in its place and no restart waits for another. What is
asked for is CPU time, of the ledger; the machine may be busy.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from bench.figure import Figure
from bench.processes import HERE, Server, server
from bench.stored import look
from edge_runtime.event import Outcome
from edge_runtime.metering.ledger import STARTUP, UsageRow, read_usage

CPU_MS = 100
TIMES = 5
PYTHON_BOUND_MS = 50
HARD_BOUND_MS = 500
WITHIN_S = 60

PLACES = ("fetch", "thread", "object", "step", "sync_step")
MANNERS = {
    "python": ("in Python", PYTHON_BOUND_MS),
    "swallowed": ("that swallows the stop", HARD_BOUND_MS),
    "native": ("in one call in C, that keeps the interpreter", HARD_BOUND_MS),
}
IN_FETCH = {
    "regex": ("in a regular expression", HARD_BOUND_MS),
    "compressed": ("in one call of zlib, without the interpreter", HARD_BOUND_MS),
    "short_calls": ("in many calls of zlib", PYTHON_BOUND_MS),
}
STORMS = {
    "successors": "each starts another and ends",
    "heirs": "each swallows the stop and leaves another",
    "wakers": "250 wake every millisecond and swallow the stop",
    "burners": "250 compute",
    "mayflies": "they end at once",
}
"""Of threads: some are stopped, after the event has ended well, others killed."""
SETTLED_S = 3.0
"""So long nothing is charged any more when a storm is over."""
CASES = [
    *((place, manner, *MANNERS[manner]) for place in PLACES for manner in MANNERS),
    *(("fetch", manner, *described) for manner, described in IN_FETCH.items()),
    *(("storm", manner, f"of threads, {described}", HARD_BOUND_MS) for manner, described in STORMS.items()),
]


def run() -> Iterator[Figure]:
    for place, manner, described, bound_ms in CASES:
        over_ms = sorted(_beyond_limit_ms(place, manner))
        what = f"CPU beyond the limit, {place.replace('_', ' ')} {described}"
        note = f"median {statistics.median(over_ms):.0f} ms of {len(over_ms)}, limits.cpu_ms = {CPU_MS}"
        yield Figure(f"{what}, worst", over_ms[-1], "ms", bound=bound_ms, note=note)


def _beyond_limit_ms(place: str, manner: str) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        workers, data = Path(folder) / "workers", Path(folder) / "data"
        names = [f"w{number}" for number in range(TIMES)]
        for name in names:
            _write_worker(workers / name)
        command: list[object] = [sys.executable, "-m", "edge_runtime", "run", workers, "--port", 0, "--data", data]
        with server([*command, "--quiet"], data) as edge:
            used_ms = _storm if place == "storm" else _run_away
            return [used_ms(edge, name, f"/{place}/{manner}") for name in names]


def _write_worker(folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copy(HERE / "workers/runaway/entry.py", folder)
    config = {
        "name": folder.name,
        "main": "entry.py",
        "compatibility_date": "2026-05-01",
        "limits": {"cpu_ms": CPU_MS},
        "edge": {"blocked_ms": 600_000},
        "durable_objects": {"bindings": [{"name": "COUNTER", "class_name": "Counter"}]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Counter"]}],
        "workflows": [{"name": "flow", "binding": "FLOW", "class_name": "Flow"}],
    }
    (folder / "wrangler.json").write_text(json.dumps(config))


def _run_away(edge: Server, worker: str, path: str) -> float:
    """What was charged beyond the limit, once it is in the ledger."""
    _request(edge, worker, path)
    ends_s = time.monotonic() + WITHIN_S
    while time.monotonic() < ends_s:
        stopped = [row for row in _usage(edge, worker) if row.errors.get(Outcome.EXCEEDED_CPU)]
        if stopped:
            return max(row.cpu_us for row in stopped) / 1000 - CPU_MS
        time.sleep(0.1)
    raise RuntimeError(f"{path} was not stopped, or not charged, within {WITHIN_S} s")


def _storm(edge: Server, worker: str, path: str) -> float:
    """What the worker was charged beyond the limit, whatever for, when that grows no more."""
    _request(edge, worker, path)
    charged_us, since_s = 0, time.monotonic()
    ends_s = since_s + WITHIN_S
    while time.monotonic() < ends_s:
        now_us = sum(row.cpu_us for row in _usage(edge, worker) if row.kind != STARTUP)
        if now_us != charged_us:
            charged_us, since_s = now_us, time.monotonic()
        if charged_us >= CPU_MS * 1000 and time.monotonic() - since_s >= SETTLED_S:
            return charged_us / 1000 - CPU_MS
        time.sleep(0.1)
    raise RuntimeError(f"{path} was not stopped, or not charged, within {WITHIN_S} s")


def _request(edge: Server, worker: str, path: str) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{edge.port}{path}", headers={"host": f"{worker}.localhost"})
    try:
        urllib.request.urlopen(request, timeout=WITHIN_S).close()
    except (urllib.error.HTTPError, HTTPException, OSError):
        pass  # stopped, or killed


def _usage(edge: Server, worker: str) -> list[UsageRow]:
    return look(edge.data, lambda now: list(read_usage(now, worker=worker)))
