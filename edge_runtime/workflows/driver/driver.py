"""The driver: has the engine take what comes from the script, the attempts, the clock and the inbox, one input at a
time, and what it decides performed (`performing`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.event import EventContext
from edge_runtime.limits import HIBERNATE_SLEEP_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Randomness
from edge_runtime.store.transaction import Transaction
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.core.effects import (
    EventArrived,
    Input,
    Stopped,
    TimerFired,
    WaitRequested,
    Woken,
)
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.journal import rollback_key
from edge_runtime.workflows.core.requests import Request
from edge_runtime.workflows.driver.endings import Ended
from edge_runtime.workflows.driver.inbox_reader import InboxReader
from edge_runtime.workflows.driver.pacing import Pacing
from edge_runtime.workflows.driver.performing import Performer
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.script.calls import Call
from edge_runtime.workflows.stored.blocks import Tail
from edge_runtime.workflows.stored.inbox import Asked, DeleteAsked, RestartAsked
from edge_runtime.workflows.stored.instances import InstanceRecord, Status

_log = logging.getLogger("edge.workflows")

_FROM_OUTSIDE: Final = frozenset((TimerFired, EventArrived))


class Driver:
    """The engine of one activation, connected to the store and to the script's calls."""

    def __init__(
        self,
        context: ActorContext,
        home: ActorAddress,
        record: InstanceRecord,
        engine: Engine,
        tail: Tail,
        event: EventContext,
        on_end: Callable[[Ended], None],
        tasks: SharedTasks,
        version: str = "",
        interceptor: Interceptor | None = None,
    ) -> None:
        self._context = context
        self._address = home
        self._engine = engine
        self._event = event
        self._on_end = on_end
        self._tasks = tasks
        self._interceptor = interceptor
        self._pacing = pacing = Pacing(engine, event, context.clock, self.put_in)
        self._inbox = inbox = InboxReader(context.store, home, self.put_in)
        self._performer = Performer(
            context,
            home,
            record,
            engine,
            tail,
            event,
            tasks,
            version,
            interceptor,
            inbox,
            pacing,
            put_in=self.put_in,
            end=self._end,
            close=self.close,
        )
        self.closed = False
        self.reserve = engine.reserve
        """For the steps: the key and the position of the next one of a name in a context."""
        self.on_close: Callable[[], None] = _nothing
        self._active = True
        self._active_s = 0.0

    # For the steps

    @property
    def now_ms(self) -> int:
        return self._context.clock.now_ms()

    @property
    def random(self) -> Randomness:
        return self._context.random

    def ask(self, request: Request, call: Call | None = None) -> Promise[object]:
        """Ask the engine for a step; the promise is settled already where the journal has the result."""
        if self._interceptor is not None:
            request = self._interceptor.request(self._address, request)
        performer = self._performer
        promise = performer.settlements.promise(request.key)
        if call is not None:
            calls = performer.attempts.calls
            calls[request.key] = call
            if call.transactional:
                performer.transactional.add(request.key)
            if call.undo is not None:
                calls[rollback_key(request.key)] = call.undo
        if isinstance(request, WaitRequested):
            self._inbox.wait_begins(request.key, request.event_type)
        self.put_in(request)
        return promise

    # For the body

    @property
    def busy(self) -> bool:
        """Something runs or is being written that eviction would cut short."""
        performer = self._performer
        return not self._engine.waiting or performer.attempts.running or not performer.writer.last_commit.settled

    @property
    def idle_s(self) -> float:
        """How long ago it was first asked for this since the script or a command did something."""
        now_s = self._context.clock.monotonic_s()
        if self._active:
            self._active, self._active_s = False, now_s
        return now_s - self._active_s

    @property
    def waiting(self) -> bool:
        return self._engine.waiting

    @property
    def hibernating(self) -> bool:
        """Nothing is to be done for so long that the instance need not stay in memory, and all of it is durable."""
        until_ms = self._engine.sleeps_until_ms
        return until_ms is not None and until_ms - self.now_ms >= HIBERNATE_SLEEP_MS and not self.busy

    @property
    def undoing(self) -> bool:
        return self._engine.undoing

    def begin(self, stop_run: Callable[[], Promise[None]], rested: Callable[[], None]) -> None:
        """The script is about to run, which is shown soon even if it asks for nothing.

        `stop_run` cancels the run and resolves once it has ended; `rested` is called when it is durable that the
        instance waits.
        """
        self._performer.stop_run, self._performer.rested = stop_run, rested
        self._tasks.held_starts.watch(self._show_running, 0, self._event)

    def _show_running(self, _: int) -> None:
        if self._performer.writer.record.status is Status.QUEUED:
            self.put_in(Woken())

    def read_inbox(self, *, commands_only: bool = False) -> None:
        if not commands_only:
            self._inbox.look()
        for command in self._inbox.commands():
            self.take(command)

    def take(self, command: Asked) -> None:
        """Put in a command. A restart and a deletion are not the engine's: they end it."""
        if self.closed:
            return
        self._inbox.command_taken(command)
        if isinstance(command, RestartAsked | DeleteAsked):
            self._on_end(Ended(relaunch=True))
            self.stop()
        else:
            self.put_in(command)

    def queue(self, due_ms: int) -> None:
        """Show the instance as queued, and look again at `due_ms`: it may go on, and others run."""
        self._performer.queue(due_ms)

    def look_again(self) -> None:
        """Have a timer that brings the instance back, should the process die before the script has come further."""
        self.put_in(Woken())

    def timer_fired(self) -> None:
        self.put_in(TimerFired())

    def stop(self) -> None:
        """The activation ends in an orderly way: release the attempts, take nothing more."""
        if not self.closed:
            self.put_in(Stopped())
            self.close()

    def close(self) -> None:
        """Cancel the attempts; whatever they and the script still do has no effect."""
        if not self.closed:
            self.closed = self._pacing.closed = True
            self._performer.close()
            self.on_close()

    def let_go(self) -> None:
        """The run and the engine are over: refer to nobody any more, so that nothing waits for the cycle collector."""
        assert self.closed, "a driver is let go after its end"
        self.on_close = self._on_end = _nothing
        self._performer.let_go()
        self._pacing.let_go()
        self._inbox.let_go()

    # Inputs

    def put_in(self, input: Input, writes: Transaction | None = None) -> None:
        """`writes` become durable with the result that `input` brings, if the engine takes that."""
        if self.closed:
            return
        self._pacing.inputs += 1
        if type(input) not in _FROM_OUTSIDE:
            self._active = True
        try:
            self._performer.perform(self._engine.apply(input, self._context.clock.now_ms()), writes)
        except Exception as error:
            # A fault of ours must not reach the script nor the task that happened to bring the input.
            _log.exception("workflow %s, instance %s broke", self._address.namespace, self._address.id)
            self.close()
            self._context.abort(error)
            return
        if self._engine.holding and not self.closed:
            self._pacing.watch_stall()

    def _end(self, ended: Ended) -> None:
        if ended.fault:
            home = self._address
            _log.error("workflow %s, instance %s was stopped: %s", home.namespace, home.id, ended.fault)
        self._on_end(ended)
        self.close()


def _nothing(*_: object) -> None:
    pass
