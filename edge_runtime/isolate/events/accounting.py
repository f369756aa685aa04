"""How an isolate's usage comes into the ledger: with the commits that happen anyway, about once a second without, at
its end; and after its death, by the next isolate."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

import trio

from edge_runtime.config.model import WorkerConfig
from edge_runtime.errors import Conflict, StoreFull
from edge_runtime.isolate.events.cpu_account import CpuAccount
from edge_runtime.isolate.events.lifecycle import IsolateEvents
from edge_runtime.limits import CPU_KILL_SLACK_MS, LEDGER_COMPACT_S, LEDGER_FLUSH_S, LEDGER_RIDE_S
from edge_runtime.metering.compaction import compact
from edge_runtime.metering.ledger import HOUR_MS, Ledger
from edge_runtime.metering.left_usage import collect_left
from edge_runtime.metering.meter import Meter
from edge_runtime.metering.native import show_charged
from edge_runtime.metering.tally import Owner
from edge_runtime.metering.tally_files import TallyFile, tally_directory
from edge_runtime.seams import Clock
from edge_runtime.store.lmdb_store import LmdbStore

_log = logging.getLogger("edge.isolate")


class Accounting:
    """Of one isolate. What is charged to `ledger` is written by `run`."""

    def __init__(self, store: LmdbStore, clock: Clock, config: WorkerConfig, version: str, data_dir: Path) -> None:
        self._store = store
        self._clock = clock
        self._worker = config.name
        self._directory = tally_directory(data_dir)
        now_ms = clock.now_ms()
        self._isolate = f"{now_ms}-{os.getpid()}"
        owner = Owner(config.name, version, self._isolate, now_ms)
        self._tally = TallyFile(self._directory, owner)
        self.ledger = Ledger(store, clock, owner, self._tally)
        self._account = CpuAccount(self.ledger, (config.limits.cpu_ms + CPU_KILL_SLACK_MS) * 1_000_000)
        self._rides_s = 0.0

    def charge_import(self, meter: Meter) -> None:
        """The script was imported in this isolate."""
        if meter.cpu_s:
            self.ledger.charge("startup", "import", int(meter.cpu_s * 1e9), meter.wall_ms(), "ok")

    async def run(self, events: IsolateEvents) -> None:
        """Write usage until cancelled."""
        self._store.before_group(self._ride_along)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write, events)
            nursery.start_soon(self._compact)
            # What does not fit the disk stays in its file, for the next isolate.
            with suppress(StoreFull):
                await collect_left(self._directory, self._isolate, self._store)

    async def finish(self, events: IsolateEvents) -> None:
        """Write what there is, after the last event has ended. What does not fit the disk is left in the tally's
        file."""
        self._charge(events)
        with suppress(StoreFull):
            await self.ledger.flush_all()
            self._tally.remove()

    def _charge(self, events: IsolateEvents) -> None:
        """Charge what is not charged by the end of an event."""
        for pid in self._account.charge():
            _log.error("process %d of the script was killed: it used more than limits.cpu_ms of CPU", pid)
        events.charge_late()
        show_charged()

    def _ride_along(self) -> None:
        """Let usage go with the commit of something else; not with each, as it has rows of its own."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._rides_s and self.ledger.pending and not self.ledger.writing:
            self._rides_s = now_s + LEDGER_RIDE_S
            self.ledger.flush()

    async def _write(self, events: IsolateEvents) -> None:
        """About once a second, what no commit has taken along."""
        while True:
            await trio.sleep(LEDGER_FLUSH_S)
            self._charge(events)
            if self.ledger.pending:
                # What does not fit the disk is pending still.
                with suppress(StoreFull):
                    await self.ledger.flush()

    async def _compact(self) -> None:
        """Now and then bring old usage into its final form; another isolate that does so at the same time wins."""
        pause_s = LEDGER_COMPACT_S
        while True:
            await trio.sleep(pause_s)
            with self._store.snapshot() as snapshot:
                batch = compact(snapshot, self._worker, self._clock.now_ms())
            pause_s = LEDGER_COMPACT_S if batch else HOUR_MS / 1000
            if batch:
                with suppress(Conflict, StoreFull):
                    await self._store.commit(batch)
