"""Measuring: rounds of load on one or two subjects in turns, and what each used of CPU, time, store and memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from edge_runtime.benchmark.figures import Comparison, Spread, compare, spread
from edge_runtime.benchmark.load import Load
from edge_runtime.benchmark.processes import cpu_ns, kernel_share, memory
from edge_runtime.benchmark.server import BenchServer, Event, bench_server
from edge_runtime.benchmark.subjects import Subject
from edge_runtime.errors import UsageError
from edge_runtime.metering.bill import make_bill, money_text
from edge_runtime.metering.ledger import UsageRow, read_usage, sum_rows
from edge_runtime.metering.tariff import load_tariff, shipped
from edge_runtime.store.lmdb_store import LmdbStore, open_store

_LEDGER_S: Final = 30.0
_LEDGER_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """`count` requests or instances are sent in each of `rounds`, after `warm_up` that are not measured."""

    load: Load
    count: int
    rounds: int
    warm_up: int


@dataclass(frozen=True, slots=True)
class Round:
    events: Sequence[Event]
    latencies_ms: Sequence[float]
    elapsed_s: float
    isolate_us: float
    supervisor_us: float
    kernel_share: float
    commits: int

    def operations(self, kind: str) -> int:
        return sum(event.kind == kind for event in self.events)


@dataclass(frozen=True, slots=True)
class HandlerFigures:
    kind: str
    handler: str
    per_operation: float
    cpu_us: Spread
    wall_ms: Spread


@dataclass(frozen=True, slots=True)
class Result:
    """What one subject used; per operation unless it says otherwise.

    `user_us` are the meter's figures (what is billed), of all events that an operation caused; `isolate_us` is the
    kernel's CPU time of the isolates, user code and runtime together; `supervisor_us` that of the server process.
    """

    label: str
    operations: int
    cpu_us: Spread
    """Of the script's own code, in events of the operation's own kind."""
    latency_ms: Spread
    """As the client saw it: of a request, or of an instance from its creation to its end."""
    per_second: float
    user_us: float
    isolate_us: float
    supervisor_us: float
    kernel_share: float
    """The part of the isolates' CPU time that was spent in the kernel, 0 to 1."""
    commits: float
    peak_mb: float
    """The most memory that one isolate had resident at once."""
    private_mb: float
    quantities: dict[str, float]
    million_at_list_price: dict[str, str]
    """What a million operations cost by each shipped tariff, in its currency, allotments and fees left out."""
    handlers: tuple[HandlerFigures, ...]
    round_user_us: tuple[float, ...]
    round_isolate_us: tuple[float, ...]
    failed: int = field(default=0)
    """Events of all rounds whose outcome was not "ok"."""

    @property
    def kernel_us(self) -> float:
        """Of the isolates' CPU time what was spent in the kernel, to the 10 ms of a round that the kernel tells."""
        return self.isolate_us * self.kernel_share

    @property
    def runtime_us(self) -> float:
        """Of the isolates' CPU time what is neither the script's nor the kernel's: HTTP, codec, store, event loop."""
        return max(0.0, self.isolate_us - self.user_us - self.kernel_us)


@dataclass(frozen=True, slots=True)
class Comparisons:
    user_us: Comparison
    isolate_us: Comparison


class Measured:
    """A subject with its server, while it is being measured."""

    def __init__(self, server: BenchServer, store: LmdbStore, plan: Plan) -> None:
        self.server = server
        self._store = store
        self._plan = plan
        self._rounds: list[Round] = []
        self._sent = 0
        self.isolates: tuple[int, ...] = ()

    async def warm_up(self) -> None:
        await self.send(self._plan.warm_up)
        self.isolates = await trio.to_thread.run_sync(self.server.isolates)

    async def send(self, count: int) -> list[float]:
        """Send load and wait until it is logged. Raises UsageError, with what the server said, if it fails."""
        try:
            latencies = await self._plan.load.send(self.server, self._store, count)
        except UsageError as error:
            # What it has to say of the failure may come after the answer that failed.
            await trio.to_thread.run_sync(self.server.stop)
            raise UsageError(f"{error}\n{self.server.complaints()}".rstrip()) from None
        self._sent += count
        await trio.to_thread.run_sync(self.server.wait_events, self._plan.load.last, self._sent)
        return latencies

    async def round(self) -> None:
        isolates, supervisor = self.isolates, self.server.pid
        first = len(self.server.events)
        commits = self._store.statistics().commits
        user_ticks, kernel_ticks = _ticks(isolates)
        isolate_ns, supervisor_ns = sum(map(cpu_ns, isolates)), cpu_ns(supervisor)
        begun = time.perf_counter()
        latencies = await self.send(self._plan.count)
        elapsed_s = time.perf_counter() - begun
        isolate_ns, supervisor_ns = sum(map(cpu_ns, isolates)) - isolate_ns, cpu_ns(supervisor) - supervisor_ns
        user_after, kernel_after = _ticks(isolates)
        ticks = user_after - user_ticks + kernel_after - kernel_ticks
        measured = Round(
            events=self.server.events[first:],
            latencies_ms=latencies,
            elapsed_s=elapsed_s,
            isolate_us=isolate_ns / 1000,
            supervisor_us=supervisor_ns / 1000,
            kernel_share=(kernel_after - kernel_ticks) / ticks if ticks else 0.0,
            commits=self._store.statistics().commits - commits,
        )
        if not measured.operations(self._plan.load.kind):
            raise UsageError(
                f"cannot measure {self.server.subject.label}: nothing of what was sent led to an event of kind "
                f"{self._plan.load.kind}"
            )
        self._rounds.append(measured)

    async def result(self) -> Result:
        kind, rounds = self._plan.load.kind, self._rounds
        events = [event for measured in rounds for event in measured.events]
        operations = sum(measured.operations(kind) for measured in rounds)
        all_operations = sum(event.kind == kind for event in self.server.events)
        rows = await self._usage()
        memories = [memory(pid) for pid in self.isolates]
        return Result(
            label=self.server.subject.label,
            operations=operations,
            cpu_us=spread([event.cpu_us for event in events if event.kind == kind]),
            latency_ms=spread([took for measured in rounds for took in measured.latencies_ms]),
            per_second=operations / sum(measured.elapsed_s for measured in rounds),
            user_us=sum(event.cpu_us for event in events) / operations,
            isolate_us=sum(measured.isolate_us for measured in rounds) / operations,
            supervisor_us=sum(measured.supervisor_us for measured in rounds) / operations,
            kernel_share=sum(measured.kernel_share for measured in rounds) / len(rounds),
            commits=sum(measured.commits for measured in rounds) / operations,
            peak_mb=max(found.peak_mb for found in memories),
            private_mb=max(found.private_mb for found in memories),
            quantities={name: amount / all_operations for name, amount in _quantities(rows).items()},
            million_at_list_price={
                name: money_text(make_bill(load_tariff(name), rows).list_cost * 1_000_000 / all_operations)
                for name in shipped()
            },
            handlers=_handlers(events, operations),
            round_user_us=tuple(
                sum(event.cpu_us for event in measured.events) / measured.operations(kind) for measured in rounds
            ),
            round_isolate_us=tuple(measured.isolate_us / measured.operations(kind) for measured in rounds),
            failed=sum(event.outcome != "ok" for event in events),
        )

    async def _usage(self) -> list[UsageRow]:
        """The ledger of everything that was sent, warm-up included, once it has been written."""
        logged = len(self.server.events)
        rows: list[UsageRow] = []
        with trio.move_on_after(_LEDGER_S):
            while True:
                with self._store.snapshot() as snapshot:
                    rows = read_usage(snapshot)
                if sum(row.events for row in rows) >= logged:
                    break
                await trio.sleep(_LEDGER_LOOK_S)
        return rows


def _quantities(rows: list[UsageRow]) -> Mapping[str, int]:
    return sum_rows(rows).quantities if rows else {}


def _ticks(pids: Sequence[int]) -> tuple[int, int]:
    shares = [kernel_share(pid) for pid in pids]
    return sum(user for user, _ in shares), sum(kernel for _, kernel in shares)


def _handlers(events: Sequence[Event], operations: int) -> tuple[HandlerFigures, ...]:
    grouped: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        grouped.setdefault((event.kind, event.handler), []).append(event)
    return tuple(
        HandlerFigures(
            kind,
            handler,
            len(found) / operations,
            spread([event.cpu_us for event in found]),
            spread([event.wall_ms for event in found]),
        )
        for (kind, handler), found in sorted(grouped.items())
    )


@asynccontextmanager
async def measured(subjects: Sequence[Subject], plan: Plan, environment: str | None) -> AsyncIterator[list[Measured]]:
    """Each subject served, warm and measured in `plan.rounds` rounds; the servers run until the block ends."""
    async with AsyncExitStack() as stack:
        found = []
        for each in subjects:
            server = await stack.enter_async_context(bench_server(each, environment))
            store = await stack.enter_async_context(open_store(server.data / "store"))
            found.append(Measured(server, store, plan))
        for one in found:
            await one.warm_up()
        for number in range(plan.rounds):
            # Whoever comes first finds other caches: take turns.
            for one in found if number % 2 == 0 else reversed(found):
                await one.round()
        yield found


def compare_results(base: Result, candidate: Result) -> Comparisons:
    return Comparisons(
        user_us=compare(base.round_user_us, candidate.round_user_us),
        isolate_us=compare(base.round_isolate_us, candidate.round_isolate_us),
    )
