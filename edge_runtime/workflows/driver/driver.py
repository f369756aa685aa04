"""The driver: has the engine take inputs, has its entries written and performs its other effects.

A result reaches the script once the entry that records it is durable. The start of an attempt waits for the batch of
the next entry, at most START_HELD_MS: a quick step takes one commit. It is durable before the attempt begins where the
step runs at most once, and for the first attempts of an activation: so a body that kills the process is counted, at
the latest when it is run for the second time. When a commit is refused the activation is over: nothing is started any
more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

import trio

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.event import EventContext
from edge_runtime.limits import HIBERNATE_SLEEP_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Randomness
from edge_runtime.store.transaction import Transaction
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.attempts.running import Attempts
from edge_runtime.workflows.core.effects import (
    Append,
    AskDelay,
    Breathe,
    Consume,
    Effect,
    EventArrived,
    Fault,
    Finish,
    Input,
    Refuse,
    Relaunch,
    Resolve,
    RunStopped,
    SetTimer,
    StartAttempt,
    Stopped,
    StopRun,
    Suspend,
    TimerFired,
    WaitRequested,
    Woken,
)
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.journal import ROLLBACK, StepKey, rollback_key
from edge_runtime.workflows.core.requests import Request
from edge_runtime.workflows.driver.endings import Ended
from edge_runtime.workflows.driver.inbox_reader import InboxReader
from edge_runtime.workflows.driver.pacing import Pacing
from edge_runtime.workflows.driver.recording import Recorder
from edge_runtime.workflows.driver.settlements import Settlements
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.driver.writing import InstanceWriter
from edge_runtime.workflows.script.calls import Call
from edge_runtime.workflows.stored.blocks import Tail
from edge_runtime.workflows.stored.inbox import Asked, DeleteAsked, RestartAsked
from edge_runtime.workflows.stored.instances import InstanceRecord, Status

_log = logging.getLogger("edge.workflows")

_FROM_OUTSIDE: Final = frozenset((TimerFired, EventArrived))


def _stopped() -> Promise[None]:
    return Promise.resolved(None)


def _nothing(*_: object) -> None:
    pass


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
        self._writer = InstanceWriter(
            context, home, record, engine.seq, tail, event, tasks.held_starts, self._durable, self.close
        )
        self._attempts = Attempts(context, event, self.put_in, tasks.workers, interceptor)
        self._pacing = Pacing(engine, event, context.clock, self.put_in)
        self._settlements = Settlements(context, event, self._given)
        self._inbox = InboxReader(context.store, self._address, self.put_in)
        quantities = event.meter.quantities
        self._recorder = Recorder(context, self._address, engine, self._writer, self._inbox, quantities, version)
        self.closed = False
        self.reserve = engine.reserve
        """For the steps: the key and the position of the next one of a name in a context."""
        self.stop_run: Callable[[], Promise[None]] = _stopped
        """Cancels the run; resolves once it has ended."""
        self.rested: Callable[[], None] = _nothing
        """Called when it is durable that the instance waits."""
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
        promise = self._settlements.promise(request.key)
        if call is not None:
            self._attempts.calls[request.key] = call
            if call.transactional:
                self._recorder.transactional.add(request.key)
            if call.undo is not None:
                self._attempts.calls[rollback_key(request.key)] = call.undo
        if isinstance(request, WaitRequested):
            self._inbox.wait_begins(request.key, request.event_type)
        self.put_in(request)
        return promise

    # For the body

    @property
    def busy(self) -> bool:
        """Something runs or is being written that eviction would cut short."""
        return not self._engine.waiting or self._attempts.running or not self._writer.last_commit.settled

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

    def begin(self) -> None:
        """The script is about to run, which is shown soon even if it asks for nothing."""
        self._tasks.held_starts.watch(self._show_running, 0, self._event)

    def _show_running(self, _: int) -> None:
        if self._writer.record.status is Status.QUEUED:
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
        self._recorder.queue(due_ms)

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
            self.closed = self._writer.closed = self._pacing.closed = True
            self._attempts.cancel()
            self._settlements.close()
            self.on_close()

    def let_go(self) -> None:
        """The run and the engine are over: refer to nobody any more, so that nothing waits for the cycle collector."""
        assert self.closed, "a driver is let go after its end"
        self.stop_run, self.rested, self.on_close = _stopped, _nothing, _nothing
        self._on_end = _nothing
        self._writer.let_go()
        self._pacing.let_go()
        self._attempts.let_go()
        self._settlements.let_go()
        self._inbox.let_go()

    # Inputs and effects

    def put_in(self, input: Input, writes: Transaction | None = None) -> None:
        """`writes` become durable with the result that `input` brings, if the engine takes that."""
        if self.closed:
            return
        self._pacing.inputs += 1
        if type(input) not in _FROM_OUTSIDE:
            self._active = True
        try:
            self._perform(self._engine.apply(input, self._context.clock.now_ms()), writes)
        except Exception as error:
            # A fault of ours must not reach the script nor the task that happened to bring the input.
            _log.exception("workflow %s, instance %s broke", self._address.namespace, self._address.id)
            self.close()
            self._context.abort(error)
            return
        if self._engine.holding and not self.closed:
            self._pacing.watch_stall()

    def _perform(self, effects: list[Effect], writes: Transaction | None) -> None:
        recorded = self._recorder.record(effects, writes)
        if recorded is None:
            return
        if recorded.at_rest:
            # A replay has come to where it was: no commit tells that it waits.
            self.rested()
        for effect in recorded.later:
            self._perform_later(effect)
        ended = recorded.ended
        if ended is not None:
            if ended.fault:
                home = self._address
                _log.error("workflow %s, instance %s was stopped: %s", home.namespace, home.id, ended.fault)
            self._on_end(ended)
            self.close()

    def _durable(self) -> None:
        """More entries are durable."""
        writer = self._writer
        if writer.record.status is Status.WAITING:
            self.rested()
        self._settlements.durable(writer.durable_seq)

    def _perform_later(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                if effect.after_commit or not self._writer.committed_any:
                    self._writer.last_commit.add_done_callback(partial(self._start_committed, effect))
                else:
                    self._attempts.start(effect)
            case Resolve():
                self._settlements.give(effect, self._writer.durable_seq)
            case Refuse():
                self._settlements.refuse(effect)
            case AskDelay():
                self._attempts.ask_delay(effect)
            case Breathe():
                self._pacing.breathe(self._settlements.after(self._writer.last_commit))
            case StopRun():
                self._event.start(self._stop_run, self._replace_attempts())
            case Append() | Consume() | SetTimer() | Finish() | Fault() | Suspend() | Relaunch():
                raise AssertionError("recorded before")
            case _:
                assert_never(effect)

    def _replace_attempts(self) -> Attempts:
        """Cancel what runs, and keep the rollback handlers for the attempts that follow; returns the old ones."""
        old = self._attempts
        self._attempts = Attempts(self._context, self._event, self.put_in, self._tasks.workers, self._interceptor)
        self._attempts.calls.update(item for item in old.calls.items() if item[0].path[:1] == (ROLLBACK,))
        old.cancel()
        return old

    async def _stop_run(self, attempts: Attempts) -> None:
        try:
            await self.stop_run()
            await attempts.wait_ended()
            # What is undone is read from the journal.
            await self._context.wait_durable()
        except trio.Cancelled:
            self.close()
            raise
        except Exception:
            # A commit was refused: this activation is over.
            self.close()
        self.put_in(RunStopped())

    def _start_committed(self, effect: StartAttempt, committed: Promise[None]) -> None:
        if committed.error is None and not self.closed:
            self._attempts.start(effect)

    def _given(self, key: StepKey) -> None:
        self._attempts.calls.pop(key, None)
        self._inbox.wait_ends(key)
