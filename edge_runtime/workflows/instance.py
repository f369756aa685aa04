"""A workflow instance as an actor: loads its journal, runs `run` from the top, suspends, ends.

Its storage is its journal, its timer is what it waits for next, its mailbox is the inbox table. While it waits for
nothing but times and events it may leave memory; the next activation replays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import trio

from edge_runtime.actors.api import ActorContext
from edge_runtime.event import EventContext, EventKind, Outcome
from edge_runtime.limits import INSTANCE_IDLE_MS, STEPS_DEFAULT, WORKFLOW_RESUME_MS
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workers.context import ExecutionContext
from edge_runtime.workers.conversion import from_wire
from edge_runtime.workers.exports import relaxed_call_args
from edge_runtime.workflows import instances, journal, payloads
from edge_runtime.workflows.branches import Branch, current_branch, observe_tasks
from edge_runtime.workflows.driver import Driver, Ended, finished_record, retained_until_ms
from edge_runtime.workflows.effects import Finish, RunRaised, RunReturned
from edge_runtime.workflows.engine import Engine
from edge_runtime.workflows.errors import fatal, record_of
from edge_runtime.workflows.instances import InstanceRecord
from edge_runtime.workflows.journal import Created, Entry, JournalBroken
from edge_runtime.workflows.steps import WorkflowStep

_log = logging.getLogger("edge.workflows")
_SUSPENDED: Final = "suspended"


@dataclass(frozen=True, slots=True)
class WorkflowDefinition:
    """What the instances of one workflow have in common."""

    name: str
    entrypoint: Callable[[Any, Any], Any]
    """The script's class; called with ctx and env for each activation."""
    env: Any
    implicit_dependencies: bool = True
    steps_max: int = STEPS_DEFAULT


class WorkflowFactory:
    """`actors.api.BodyFactory` of one workflow. `idle_ms`: how long an instance that waits stays in memory."""

    def __init__(self, definition: WorkflowDefinition, idle_ms: int = INSTANCE_IDLE_MS) -> None:
        self._definition = definition
        self.idle_ms = idle_ms

    def __call__(self, context: ActorContext) -> WorkflowInstance:
        return WorkflowInstance(context, self._definition, self.idle_ms)


class Poke:
    """The message that makes an instance look into its inbox now. The reply is None."""


class WorkflowInstance:
    """`actors.api.ActorBody` of one instance."""

    def __init__(self, context: ActorContext, definition: WorkflowDefinition, idle_ms: int) -> None:
        self._context = context
        self._definition = definition
        self._idle_s = idle_ms / 1000
        self._record: InstanceRecord | None = None
        self._driver: Driver | None = None
        self._run_scope = trio.CancelScope()
        self._ended: Ended | None = None
        self._stopping = False

    # The actor's body

    async def start(self) -> None:
        context, address = self._context, self._context.address
        with context.store.snapshot() as snapshot:
            record = self._record = instances.read(snapshot, address)
            if record is None or record.finished:
                return
            try:
                entries, _ = journal.load(snapshot, address.worker, address.namespace, address.id, record.seq)
            except JournalBroken as error:
                self._end_broken(record, error)
                return
            events = instances.read_inbox(snapshot, address)
        engine = Engine(entries, events, due_ms=context.due_ms, steps_max=self._definition.steps_max)
        event = context.events.begin(EventKind.WORKFLOW, address.namespace, actor=context)
        self._driver = driver = Driver(context, record, engine, event, self._on_end)
        running = event.spawn(self._run, event, driver, _created(entries))
        running.add_done_callback(lambda _: self._run_over(event))

    async def receive(self, message: object) -> object:
        if self._driver is not None:
            self._driver.read_inbox()
        return None

    async def timer(self) -> None:
        context = self._context
        if self._driver is not None and not self._driver.closed:
            self._driver.read_inbox()
            self._driver.timer_fired()
            return
        # The end may be queued and not yet readable.
        await context.wait_durable()
        with context.store.snapshot() as snapshot:
            record = instances.read(snapshot, context.address)
        batch = Batch()
        now_ms = context.clock.now_ms()
        due_ms: int | None = None
        if record is not None and not record.finished:
            # This activation is over; another will go on.
            due_ms = now_ms + WORKFLOW_RESUME_MS
        else:
            # What arrived after the end has nobody to read it.
            batch.delete_range(Table.INBOX, *instances.inbox_range(context.address))
        if record is not None and record.finished:
            due_ms = retained_until_ms(record)
            if due_ms <= now_ms:
                instances.delete(batch, context.address, record)
                due_ms = None
        context.set_timer(batch, due_ms)
        await context.commit(batch)

    async def input_open(self) -> None:
        return

    async def stop(self) -> None:
        self._stopping = True
        if self._driver is not None:
            self._driver.stop()
        self._run_scope.cancel()

    @property
    def answering(self) -> bool:
        return False

    @property
    def idle(self) -> bool:
        driver = self._driver
        if driver is None or driver.closed:
            return True
        return not driver.busy and self._context.clock.monotonic_s() - driver.last_active_s >= self._idle_s

    # The run

    async def _run(self, event: EventContext, driver: Driver, created: Created) -> None:
        """Execute `run` from the top. Its end, of whatever kind, is an input of the engine, unless it was suspended."""
        current_branch.set(Branch())
        if event.flavour.name == "trio":
            observe_tasks()
        with self._run_scope:
            try:
                output = await event.run(self._call_run, event, driver, created)
                driver.put_in(RunReturned(payloads.encode(output)))
            except trio.Cancelled:
                raise
            except BaseExceptionGroup as group:
                cancelled, rest = group.split(trio.Cancelled)
                if cancelled is not None:
                    raise cancelled from None
                assert rest is not None, "a group is not empty"
                driver.put_in(RunRaised(record_of(rest)))
            except BaseException as error:
                driver.put_in(RunRaised(record_of(error)))

    def _call_run(self, event: EventContext, driver: Driver, created: Created) -> Any:
        definition, address = self._definition, self._context.address
        given = from_wire(
            {
                "payload": payloads.decode_plain(created.params),
                "timestamp": payloads.instant(created.at_ms),
                "instanceId": address.id,
                "workflowName": definition.name,
            }
        )
        entrypoint = definition.entrypoint(ExecutionContext(event), definition.env)
        run = getattr(entrypoint, "run", None)
        if not callable(run):
            raise fatal(f"the class of workflow {definition.name} has no method run")
        step = WorkflowStep(driver, implicit=definition.implicit_dependencies)
        return run(*relaxed_call_args(run, (given, step)))

    def _on_end(self, ended: Ended) -> None:
        self._ended = ended
        self._run_scope.cancel()

    def _run_over(self, event: EventContext) -> None:
        address = self._context.address
        if self._driver is not None:
            self._driver.close()
        if self._ended is None:
            self._context.events.end(event, Outcome.OK, f"{address.id} {_SUSPENDED}")
            return
        finish = self._ended.finish
        error = finish.error
        text = "" if error is None else error.traceback or f"{error.name}: {error.message}"
        outcome = Outcome.OK if error is None else Outcome.EXCEPTION
        self._context.events.end(event, outcome, f"{address.id} {finish.status}", text)

    def _end_broken(self, record: InstanceRecord, error: JournalBroken) -> None:
        """Never run from a damaged journal: what it does not show would be done a second time."""
        context = self._context
        _log.error("workflow %s, instance %s: %s", context.address.namespace, context.address.id, error)
        text = f"The journal of this instance is damaged, so it cannot go on: {error}"
        finish = Finish("errored", error=ErrorRecord("JournalBroken", text))
        self._record = finished_record(record, finish, context.clock.now_ms())
        batch = Batch()
        instances.write(batch, context.address, record, self._record)
        context.set_timer(batch, retained_until_ms(self._record))
        context.commit(batch)


def _created(entries: list[Entry]) -> Created:
    first = entries[0] if entries else None
    assert isinstance(first, Created), "a journal begins with the creation"
    return first
