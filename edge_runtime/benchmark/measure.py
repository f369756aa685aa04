"""Measuring: rounds of load on one or two subjects in turns, and what each used of CPU, time, store and memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from edge_runtime.benchmark.figures import Comparison, Spread, compare, spread
from edge_runtime.benchmark.load import Load, Sender
from edge_runtime.benchmark.processes import Memory, cpu_ns, kernel_share, memory
from edge_runtime.benchmark.server import BenchServer, Event, bench_server
from edge_runtime.benchmark.subjects import Subject
from edge_runtime.errors import UsageError
from edge_runtime.metering.bill import make_bill, money_text
from edge_runtime.metering.grouping import sum_rows
from edge_runtime.metering.ledger import UsageRow, read_usage
from edge_runtime.metering.tariff import load_tariff, shipped
from edge_runtime.store.lmdb_store import LmdbStore, open_store

_LEDGER_S: Final = 30.0
_LEDGER_LOOK_S: Final = 0.1
_TURN: Final = 2
"""How many requests each connection sends before it is another subject's turn."""


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


class OpenRound:
    """A round that is being taken; `send` may be called several times, and time between the calls is not in it."""

    def __init__(self, send: Callable[[int], Awaitable[list[float]]]) -> None:
        self._send = send
        self.latencies_ms: list[float] = []
        self.elapsed_s = 0.0

    async def send(self, count: int) -> None:
        begun = time.perf_counter()
        self.latencies_ms += await self._send(count)
        self.elapsed_s += time.perf_counter() - begun


class Measured:
    """A subject, and what was measured of it, with one server after the other if need be."""

    def __init__(self, subject: Subject, plan: Plan, environment: str | None) -> None:
        self.isolates: tuple[int, ...] = ()
        """Process ids, while it is served."""
        self._subject = subject
        self._plan = plan
        self._environment = environment
        self._server: BenchServer
        self._store: LmdbStore
        self._sent = 0
        self._rounds: list[Round] = []
        self._usage: list[UsageRow] = []
        self._memories: list[Memory] = []
        self._operations = 0

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Start a server of its own; `served` waits for it."""
        async with bench_server(self._subject, self._environment) as self._server:
            yield

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Have the server ready and warm."""
        await trio.to_thread.run_sync(self._server.wait_ready, abandon_on_cancel=True)
        async with open_store(self._server.data / "store") as self._store:
            self._sent = 0
            await self.send(self._plan.warm_up)
            self.isolates = await trio.to_thread.run_sync(self._server.isolates)
            yield

    async def collect(self) -> None:
        """Take in what the server's ledger has of everything that was sent, warm-up included, and its memory."""
        self._usage += await self._ledger()
        self._memories += [memory(pid) for pid in self.isolates]
        self._operations += sum(event.kind == self._plan.load.kind for event in self._server.events)

    async def send(self, count: int) -> None:
        """Send load and wait until it is logged. Raises UsageError, with what the server said, if it fails."""
        with self._plan.load.begin(self._server, self._store) as sender:
            await self._send(sender, count)
        await self._logged()

    @asynccontextmanager
    async def round(self) -> AsyncIterator[OpenRound]:
        """Measure what is sent in the block. Its end waits until all of it is logged."""
        isolates, supervisor = self.isolates, self._server.pid
        first = len(self._server.events)
        commits = self._store.statistics().commits
        user_ticks, kernel_ticks = _ticks(isolates)
        isolate_ns, supervisor_ns = sum(map(cpu_ns, isolates)), cpu_ns(supervisor)
        with self._plan.load.begin(self._server, self._store) as sender:
            open_round = OpenRound(lambda count: self._send(sender, count))
            yield open_round
        await self._logged()
        isolate_ns, supervisor_ns = sum(map(cpu_ns, isolates)) - isolate_ns, cpu_ns(supervisor) - supervisor_ns
        user_after, kernel_after = _ticks(isolates)
        ticks = user_after - user_ticks + kernel_after - kernel_ticks
        measured = Round(
            events=self._server.events[first:],
            latencies_ms=open_round.latencies_ms,
            elapsed_s=open_round.elapsed_s,
            isolate_us=isolate_ns / 1000,
            supervisor_us=supervisor_ns / 1000,
            kernel_share=(kernel_after - kernel_ticks) / ticks if ticks else 0.0,
            commits=self._store.statistics().commits - commits,
        )
        if not measured.operations(self._plan.load.kind):
            raise UsageError(
                f"cannot measure {self._subject.label}: nothing of what was sent led to an event of kind "
                f"{self._plan.load.kind}"
            )
        self._rounds.append(measured)

    async def _send(self, sender: Sender, count: int) -> list[float]:
        try:
            latencies = await sender.send(count)
        except UsageError as error:
            # What it has to say of the failure may come after the answer that failed.
            await trio.to_thread.run_sync(self._server.stop)
            raise UsageError(f"{error}\n{self._server.complaints()}".rstrip()) from None
        self._sent += count
        return latencies

    async def _logged(self) -> None:
        await trio.to_thread.run_sync(
            self._server.wait_events, self._plan.load.last, self._sent, abandon_on_cancel=True
        )

    def result(self) -> Result:
        kind, rounds, rows = self._plan.load.kind, self._rounds, self._usage
        events = [event for measured in rounds for event in measured.events]
        operations = sum(measured.operations(kind) for measured in rounds)
        return Result(
            label=self._subject.label,
            operations=operations,
            cpu_us=spread([event.cpu_us for event in events if event.kind == kind]),
            latency_ms=spread([took for measured in rounds for took in measured.latencies_ms]),
            per_second=operations / sum(measured.elapsed_s for measured in rounds),
            user_us=sum(event.cpu_us for event in events) / operations,
            isolate_us=sum(measured.isolate_us for measured in rounds) / operations,
            supervisor_us=sum(measured.supervisor_us for measured in rounds) / operations,
            kernel_share=sum(measured.kernel_share for measured in rounds) / len(rounds),
            commits=sum(measured.commits for measured in rounds) / operations,
            peak_mb=max(found.peak_mb for found in self._memories),
            private_mb=max(found.private_mb for found in self._memories),
            quantities={name: amount / self._operations for name, amount in _quantities(rows).items()},
            million_at_list_price={
                name: money_text(make_bill(load_tariff(name), rows).list_cost * 1_000_000 / self._operations)
                for name in shipped()
            },
            handlers=_handlers(events, operations),
            round_user_us=tuple(
                sum(event.cpu_us for event in measured.events) / measured.operations(kind) for measured in rounds
            ),
            round_isolate_us=tuple(measured.isolate_us / measured.operations(kind) for measured in rounds),
            failed=sum(event.outcome != "ok" for event in events),
        )

    async def _ledger(self) -> list[UsageRow]:
        """The ledger once all that was logged has been written to it."""
        logged = len(self._server.events)
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
    """Each subject served, warm and measured in `plan.rounds` rounds. One alone is served until the block ends.

    Several get new servers for each round: where a process has its memory makes it a few per cent faster or slower
    than another that runs the same code, for all of its life.
    """
    found = [Measured(each, plan, environment) for each in subjects]
    if len(found) == 1:
        async with _served(found):
            for _ in range(plan.rounds):
                await _take_round(found, plan)
            await found[0].collect()
            yield found
        return
    for _ in range(plan.rounds):
        async with _served(found):
            await _take_round(found, plan)
            for one in found:
                await one.collect()
    yield found


@asynccontextmanager
async def _served(found: Sequence[Measured]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for one in found:
            await stack.enter_async_context(one.started())
        for one in found:
            await stack.enter_async_context(one.served())
        yield


async def _take_round(found: Sequence[Measured], plan: Plan) -> None:
    """One round of each. Several are sent their load in short turns: on machines that are shared, the speed of a core
    changes by a factor of two from one second to the next, and this way it changes for all of them."""
    async with AsyncExitStack() as stack:
        rounds = [await stack.enter_async_context(one.round()) for one in found]
        left, turn = plan.count, plan.count if len(rounds) == 1 else plan.load.together * _TURN
        while left:
            for each in rounds:
                await each.send(min(left, turn))
            left -= min(left, turn)
            rounds.reverse()  # whoever comes first finds other caches


def compare_results(base: Result, candidate: Result) -> Comparisons:
    return Comparisons(
        user_us=compare(base.round_user_us, candidate.round_user_us),
        isolate_us=compare(base.round_isolate_us, candidate.round_isolate_us),
    )
