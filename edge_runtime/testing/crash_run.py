"""One run of one instance, interrupted where the plan says, each process a seeded run of its own."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import trio
import trio.testing

from bindings.workflows.kind import WorkflowSpec
from edge_runtime.promise import Promise
from edge_runtime.store.memory_store import MemoryStore
from edge_runtime.testing.interruptions import How, PacedStore, Point
from edge_runtime.testing.process import NEVER, Process, open_process
from edge_runtime.testing.scheduling import run
from edge_runtime.testing.subject import Script
from edge_runtime.testing.surroundings import Fetch, JumpingClock, SeededRandomness
from edge_runtime.testing.witness import AttemptLog, Began, Witness
from edge_runtime.workflows.core.journal import (
    Drifted,
    Entry,
    EventReceived,
    StepFailed,
    StepKind,
    StepStarted,
    StepSucceeded,
)
from edge_runtime.workflows.script import payloads
from edge_runtime.workflows.stored import blocks, instances

_IDLE_MS: Final = 1_000
_EVICTED: Final = Point(How.EVICTED, 0)
JUMPS_MAX: Final = 4_000
"""So often may the clock jump in one process before the run counts as one that never ends."""


@dataclass(frozen=True, slots=True)
class Send:
    """An event for the instance. It is sent once: the nth of a type when the nth wait for that type has begun, or, if
    `early`, as soon as the instance exists."""

    type: str
    payload: Any = None
    early: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is the same in every run."""

    script: Script
    spec: WorkflowSpec
    binding: str
    id: str
    params: Any
    events: Sequence[Send]
    fetch: Fetch | None
    witness: Witness
    outcome: Callable[[Any], Awaitable[Any]] | None
    prepare: Callable[[Any], Awaitable[Any]] | None
    reset: Callable[[], None] | None
    seed: int


@dataclass(slots=True)
class Lived:
    """What became of one run."""

    result: Any = None
    """(status, output, error's name and message)."""
    steps: dict[str, str] = field(default_factory=dict)
    """How each recorded step ended."""
    drift: list[str] = field(default_factory=list)
    begun: list[Began] = field(default_factory=list)
    cut: list[set[str]] = field(default_factory=list)
    """For each interruption: the steps that had begun and were not recorded as done."""
    repeated: list[str] = field(default_factory=list)
    """Recorded as done, and begun again."""
    outside: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    outcome: Any = None
    stuck: str = ""
    commits: int = 0
    rests: int = 0
    """Of the first process."""


class CrashRun:
    def __init__(self, scenario: Scenario, plan: Sequence[Point] = ()) -> None:
        self._scenario = scenario
        self._plan = plan
        self._address = instances.address_of(scenario.spec.worker, scenario.spec.workflow, scenario.id)
        self._log = AttemptLog()
        self._random = SeededRandomness(scenario.seed)
        self._memory = MemoryStore(manual=True)
        self._shift_ms = 0
        self._created = False
        self._asked = False
        self._sent: set[int] = set()
        self._done: set[str] = set()
        self._interrupted = False
        self._lived = Lived()

    def run(self) -> Lived:
        """Live to the end: a process for each point of the plan, and a last one."""
        scenario, lived = self._scenario, self._lived
        scenario.witness.clear()
        if scenario.reset is not None:
            scenario.reset()
        if scenario.prepare is not None:
            run(self._prepare, scenario.prepare, seed=scenario.seed)
        for number, point in enumerate([*self._plan, None]):
            self._interrupted = False
            self._log.process = number
            run(self._process, point, seed=scenario.seed + number, autojump=False)
            self._memory = self._memory.crash()
            if not self._interrupted:
                break
            recorded = self._recorded()
            begun = {began.step for began in self._log.begun}
            lived.cut.append(begun - recorded)
            self._done |= recorded
        lived.begun = self._log.begun
        lived.outside = list(scenario.witness.outside)
        lived.elsewhere = list(scenario.witness.elsewhere)
        return lived

    async def _prepare(self, prepare: Callable[[Any], Awaitable[Any]]) -> None:
        store = MemoryStore()
        async with open_process(self._scenario.script, store, self._log, random=self._random) as process:
            await process.handle(prepare, process.env)
            await process.host.release()
        self._memory = store.paced()

    async def _process(self, point: Point | None) -> None:
        scenario = self._scenario
        store = PacedStore(self._memory)
        clock = JumpingClock(self._shift_ms)
        began_before = len(self._log.begun)
        async with open_process(
            scenario.script,
            store,
            self._log,
            clock=clock,
            random=self._random,
            fetch=scenario.fetch,
            on_end=self._log.ended,
            idle_ms=NEVER if self._log.process == 0 and point != _EVICTED else _IDLE_MS,
        ) as process:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit, store, process, point, nursery)
                await self._drive(store, process, point)
                nursery.cancel_scope.cancel()
            if not self._interrupted and not self._lived.stuck:
                self._conclude()
            # What ends with the process writes nothing any more.
            store.die()
            self._shift_ms = clock.shift_ms + int(trio.current_time() * 1000)
        self._lived.repeated += [began.step for began in self._log.begun[began_before:] if began.step in self._done]

    async def _commit(self, store: PacedStore, process: Process, point: Point | None, nursery: trio.Nursery) -> None:
        count = 0
        wanted = 0 if point is None or point.how.at_rest else point.number
        while True:
            await store.wait_wanted()
            count += 1
            if count == wanted and point is not None and point.how is How.KILLED_BEFORE:
                self._kill(store, nursery)
                return
            store.commit_next()
            if self._log.process == 0:
                self._lived.commits = count
            if count == wanted and point is not None:
                if point.how.suspends:
                    nursery.start_soon(self._suspend, process, nursery)
                else:
                    self._kill(store, nursery)
                    return

    def _kill(self, store: PacedStore, nursery: trio.Nursery) -> None:
        self._interrupted = True
        store.die()
        nursery.cancel_scope.cancel()

    async def _suspend(self, process: Process, nursery: trio.Nursery) -> None:
        self._interrupted = True
        await process.host.release()
        nursery.cancel_scope.cancel()

    async def _drive(self, store: PacedStore, process: Process, point: Point | None) -> None:
        """Be the client, and have the clock jump whenever everything waits, until the instance is over."""
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock), "what `run` gives"
        seen, rests, jumps = (-1, -1), 0, 0
        asked: dict[int, Promise[Any]] = {}
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if self._interrupted:
                await trio.sleep_forever()
            now = (store.inner.groups, len(self._log.begun))
            if now != seen:
                seen, rests = now, rests + 1
                if self._log.process == 0:
                    self._lived.rests = rests
                if point is not None and point.how.at_rest and point.number == rests:
                    self._interrupted = True
                    if point.how.suspends:
                        await process.host.release()
                    return
            if await self._client(process, asked):
                continue
            if self._over():
                if self._scenario.outcome is not None:
                    self._lived.outcome = await process.handle(self._scenario.outcome, process.env)
                return
            left_s = trio.lowlevel.current_statistics().seconds_to_next_deadline
            jumps += 1
            if math.isinf(left_s) or jumps > JUMPS_MAX:
                self._lived.stuck = self._what_it_waits_for()
                return
            clock.jump(max(0.0, left_s))

    async def _client(self, process: Process, asked: dict[int, Promise[Any]]) -> bool:
        """Create the instance and send what is to be sent now; returns whether there was anything to do.

        What was acknowledged is told by the commit itself, so nothing is sent a second time.
        """
        scenario = self._scenario

        def created(promise: Promise[Any]) -> None:
            self._created = self._created or promise.error is None

        def create() -> None:
            namespace = getattr(process.env, scenario.binding)
            asked[-1] = namespace.create(id=scenario.id, params=scenario.params)
            asked[-1].add_done_callback(created)

        if not self._created:
            if -1 in asked:
                asked[-1].result()
                raise AssertionError("a commit that nobody confirms")
            await process.handle(create)
            return True
        waits = self._waits()
        turns: dict[str, int] = {}
        for number, send in enumerate(scenario.events):
            turns[send.type] = turns.get(send.type, 0) + 1
            due = send.early or waits.count(send.type) >= turns[send.type]
            if number in self._sent or number in asked or not due or self._over():
                continue
            await process.handle(self._send, process, number, send, asked)
            return True
        return False

    async def _send(self, process: Process, number: int, send: Send, asked: dict[int, Promise[Any]]) -> None:
        def sent(promise: Promise[Any]) -> None:
            if promise.error is None:
                self._sent.add(number)

        instance = await getattr(process.env, self._scenario.binding).get(self._scenario.id)
        asked[number] = instance.send_event({"type": send.type, "payload": send.payload})
        asked[number].add_done_callback(sent)

    # What the store says

    def _entries(self) -> list[Entry]:
        address = self._address
        with self._memory.snapshot() as snapshot:
            record = instances.read(snapshot, address)
            if record is None:
                return []
            return blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq).entries

    def _recorded(self) -> set[str]:
        """The steps that are recorded as done."""
        ends = (StepSucceeded, StepFailed, EventReceived)
        return {str(entry.key) for entry in self._entries() if isinstance(entry, ends)}

    def _waits(self) -> list[str]:
        return [
            entry.event_type
            for entry in self._entries()
            if isinstance(entry, StepStarted) and entry.step is StepKind.WAIT
        ]

    def _over(self) -> bool:
        with self._memory.snapshot() as snapshot:
            record = instances.read(snapshot, self._address)
        return self._created and (record is None or record.finished)

    def _what_it_waits_for(self) -> str:
        with self._memory.snapshot() as snapshot:
            record = instances.read(snapshot, self._address)
        if record is None:
            return "the instance is gone"
        awaited = ", ".join(f"{found.step} ({found.kind})" for found in record.awaited) or "nothing that is recorded"
        drift = "; ".join(entry.difference for entry in self._entries() if isinstance(entry, Drifted))
        told = f"its status is {record.status} and it waits for {awaited}"
        return f"{told}; the replay found other steps than before: {drift}" if drift else told

    def _conclude(self) -> None:
        lived = self._lived
        with self._memory.snapshot() as snapshot:
            record = instances.read(snapshot, self._address)
        if record is None:
            lived.result = ("deleted", None, None)
            return
        output = None if record.output is None else payloads.decode_plain(record.output)
        error = None if record.error is None else (record.error.name, record.error.message)
        lived.result = (record.status.value, output, error)
        for entry in self._entries():
            match entry:
                case StepStarted(skipped=True):
                    lived.steps[str(entry.key)] = "skipped"
                case StepSucceeded() | EventReceived():
                    lived.steps[str(entry.key)] = "succeeded"
                case StepFailed():
                    lived.steps[str(entry.key)] = f"failed with {entry.error.name}"
                case Drifted():
                    lived.drift.append(f"{entry.key}: {entry.difference}")
