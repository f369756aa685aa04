"""One launch of an instance's engine: its driver, the event it is billed as and, if the script may run, that."""

from __future__ import annotations

from collections.abc import Callable

import trio

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.event import EventContext, EventKind
from edge_runtime.promise import Promise
from edge_runtime.workflows.core.durable_operations import count_start
from edge_runtime.workflows.core.effects import RunRaised, RunReturned, Woken
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.driver.driver import Driver
from edge_runtime.workflows.driver.endings import Ended, outcome_of_end
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.instance.script_run import run_script
from edge_runtime.workflows.stored.blocks import Tail
from edge_runtime.workflows.stored.instances import InstanceRecord


class Launch:
    """It is over once the driver is closed and the script does not run any more; `over` is called then, once."""

    __slots__ = (
        "_context",
        "_definition",
        "_engine",
        "_event",
        "_first",
        "_over",
        "_run_scope",
        "cut",
        "driver",
        "ended",
        "run_over",
    )

    def __init__(
        self,
        context: ActorContext,
        home: ActorAddress,
        definition: WorkflowDefinition,
        tasks: SharedTasks,
        record: InstanceRecord,
        engine: Engine,
        tail: Tail,
        over: Callable[[Launch], None],
    ) -> None:
        """`engine` has all entries; `tail` is what the next block of them follows."""
        self._context = context
        self._definition = definition
        self._engine = engine
        self._over = over
        self._first = record.started_ms is None
        self._run_scope: trio.CancelScope | None = None
        """Of the script, while it runs."""
        self.run_over: Promise[None] = Promise.resolved(None)
        self.ended: Ended | None = None
        """How the engine has ended; None while it has not, and where the instance is only suspended."""
        self.cut = False
        """Whoever cancelled the run cancels everything: nobody is to take the instance's place."""
        engine.live = False
        tasks.workers.adopt_context()
        event = context.events.begin(EventKind.WORKFLOW, context.address.namespace, actor=context)
        self._event: EventContext | None = event
        self.driver = Driver(
            context,
            home,
            record,
            engine,
            tail,
            event,
            self._on_end,
            tasks,
            definition.version,
            definition.interceptor,
        )
        self.driver.on_close = self._end
        if engine.pausing and not engine.paused:
            self.driver.put_in(Woken())

    @property
    def may_run(self) -> bool:
        """Whether the script has anything to do: the engine has not ended, and is not paused."""
        return not self.driver.closed and not self._engine.paused

    def run(self, rested: Callable[[], None]) -> None:
        """Have the script run. `rested` is called when it is durable that it waits."""
        event, driver, engine = self._event, self.driver, self._engine
        assert event is not None, "a launch that is over does not run"
        engine.live = True
        if self._first:
            count_start(event.meter.quantities, engine.created)
        self._run_scope = scope = trio.CancelScope()
        self.run_over = Promise()
        driver.begin(self._stop_run, rested)
        event.start(self._run, event, scope)

    def stop(self) -> None:
        """End in an orderly way, soon."""
        self.driver.stop()
        self._cancel_run()

    def _stop_run(self) -> Promise[None]:
        self._cancel_run()
        return self.run_over

    def _cancel_run(self) -> None:
        if self._run_scope is not None:
            self._run_scope.cancel()

    async def _run(self, event: EventContext, scope: trio.CancelScope) -> None:
        """Execute `run` from the top. Its end, of whatever kind, is an input of the engine, unless it was suspended."""
        driver = self.driver
        ended: RunReturned | RunRaised | None = None
        try:
            with scope:
                try:
                    id, created = self._context.address.id, self._engine.created
                    ended = await run_script(self._definition, id, event, driver, created)
                finally:
                    self._run_scope = None
            if ended is not None:
                driver.put_in(ended)
        finally:
            self._ran()

    def _ran(self) -> None:
        self.run_over.resolve(None)
        driver = self.driver
        if not driver.closed and not driver.undoing:
            self.cut = True
            driver.close()
        self._end()

    def _on_end(self, ended: Ended) -> None:
        self.ended = ended
        self._cancel_run()

    def _end(self) -> None:
        """End the event once both the run and the engine are over."""
        event = self._event
        if event is None or not self.driver.closed or not self.run_over.settled:
            return
        self._event = None
        self.driver.let_go()
        over, self._over = self._over, _nothing
        over(self)
        self._context.events.end(event, *outcome_of_end(self.ended, self._context.address.id))


def _nothing(_: Launch) -> None:
    pass
