"""Measuring: rounds of load on one or two subjects in turns. What is made of them: `results`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import trio

from edge_runtime.benchmark.load import Load, Sender
from edge_runtime.benchmark.processes import Memory, cpu_ns, kernel_share, memory
from edge_runtime.benchmark.results import Result, Round, result_of
from edge_runtime.benchmark.server import BenchServer, bench_server
from edge_runtime.benchmark.subjects import Subject
from edge_runtime.errors import UsageError
from edge_runtime.metering.ledger import UsageRow, read_usage
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
        return result_of(
            self._subject.label,
            self._plan.load.kind,
            self._rounds,
            usage=self._usage,
            memories=self._memories,
            sent=self._operations,
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


def _ticks(pids: Sequence[int]) -> tuple[int, int]:
    shares = [kernel_share(pid) for pid in pids]
    return sum(user for user, _ in shares), sum(kernel for _, kernel in shares)


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
