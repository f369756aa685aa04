"""Performing what the engine has decided: its entries are written, then its other effects performed.

A result reaches the script once the entry that records it is durable. The start of an attempt waits for the batch of
the next entry, at most START_HELD_MS: a quick step takes one commit. It is durable before the attempt begins where the
step runs at most once, and for the first attempts of an activation: so a body that kills the process is counted, at
the latest when it is run for the second time. When a commit is refused the activation is over: nothing is started any
more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import trio

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.event import EventContext
from edge_runtime.promise import Promise
from edge_runtime.store.transaction import Transaction
from edge_runtime.workflows.attempts.interception import Interceptor
from edge_runtime.workflows.attempts.running import Attempts
from edge_runtime.workflows.core.effects import (
    Append,
    AskDelay,
    Breathe,
    Consume,
    Effect,
    Fault,
    Finish,
    Input,
    Refuse,
    Relaunch,
    Resolve,
    RunStopped,
    SetTimer,
    StartAttempt,
    StopRun,
    Suspend,
)
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.journal import StepKey
from edge_runtime.workflows.driver.endings import Ended
from edge_runtime.workflows.driver.inbox_reader import InboxReader
from edge_runtime.workflows.driver.pacing import Pacing
from edge_runtime.workflows.driver.recording import Recorder
from edge_runtime.workflows.driver.settlements import Settlements
from edge_runtime.workflows.driver.shared_tasks import SharedTasks
from edge_runtime.workflows.driver.writing import InstanceWriter
from edge_runtime.workflows.stored.blocks import Tail
from edge_runtime.workflows.stored.instances import InstanceRecord, Status


class Performer:
    """What comes of the effects is `put_in`; `end` is told how the engine has ended; where nothing may be written any
    more, `close` is called."""

    __slots__ = (
        "_close",
        "_context",
        "_end",
        "_event",
        "_inbox",
        "_pacing",
        "_put_in",
        "_recorder",
        "attempts",
        "rested",
        "settlements",
        "stop_run",
        "transactional",
        "writer",
    )

    def __init__(
        self,
        context: ActorContext,
        home: ActorAddress,
        record: InstanceRecord,
        engine: Engine,
        tail: Tail,
        event: EventContext,
        tasks: SharedTasks,
        version: str,
        interceptor: Interceptor | None,
        inbox: InboxReader,
        pacing: Pacing,
        *,
        put_in: Callable[[Input, Transaction | None], None],
        end: Callable[[Ended], None],
        close: Callable[[], None],
    ) -> None:
        self._context = context
        self._event = event
        self._inbox = inbox
        self._pacing = pacing
        self._put_in = put_in
        self._end = end
        self._close = close
        self.writer = InstanceWriter(
            context, home, record, engine.seq, tail, event, tasks.held_starts, self._durable, close
        )
        self.attempts = Attempts(context, event, put_in, tasks.workers, interceptor)
        self.settlements = Settlements(context, event, self._given)
        quantities = event.meter.quantities
        self._recorder = Recorder(context, home, engine, self.writer, inbox, quantities, version)
        self.transactional = self._recorder.transactional
        """Steps whose writes are committed with their results."""
        self.stop_run: Callable[[], Promise[None]] = _stopped
        """Cancels the run; resolves once it has ended."""
        self.rested: Callable[[], None] = _nothing
        """Called when it is durable that the instance waits."""

    def close(self) -> None:
        """Cancel the attempts; whatever they and the script still do has no effect."""
        self.writer.closed = True
        self.attempts.cancel()
        self.settlements.close()

    def let_go(self) -> None:
        """After `close`, and once the run is over: refer to nobody any more."""
        self.stop_run, self.rested, self._close = _stopped, _nothing, _nothing
        self._put_in = self._end = _nothing
        self.writer.let_go()
        self.attempts.let_go()
        self.settlements.let_go()

    def queue(self, due_ms: int) -> None:
        """Show the instance as queued until `due_ms`."""
        self._recorder.queue(due_ms)

    def perform(self, effects: list[Effect], writes: Transaction | None) -> None:
        """`writes` become durable with the result that is among the effects."""
        recorded = self._recorder.record(effects, writes)
        if recorded is None:
            return
        if recorded.at_rest:
            # A replay has come to where it was: no commit tells that it waits.
            self.rested()
        for effect in recorded.later:
            self._perform_later(effect)
        if recorded.ended is not None:
            self._end(recorded.ended)

    def _durable(self) -> None:
        """More entries are durable."""
        writer = self.writer
        if writer.record.status is Status.WAITING:
            self.rested()
        self.settlements.durable(writer.durable_seq)

    def _perform_later(self, effect: Effect) -> None:
        match effect:
            case StartAttempt():
                if effect.after_commit or not self.writer.committed_any:
                    self.writer.last_commit.add_done_callback(partial(self._start_committed, effect))
                else:
                    self.attempts.start(effect)
            case Resolve():
                self.settlements.give(effect, self.writer.durable_seq)
            case Refuse():
                self.settlements.refuse(effect)
            case AskDelay():
                self.attempts.ask_delay(effect)
            case Breathe():
                self._pacing.breathe(self.settlements.after(self.writer.last_commit))
            case StopRun():
                old, self.attempts = self.attempts, self.attempts.replaced()
                self._event.start(self._stop_run, old)
            case Append() | Consume() | SetTimer() | Finish() | Fault() | Suspend() | Relaunch():
                raise AssertionError("recorded before")
            case _:
                assert_never(effect)

    async def _stop_run(self, attempts: Attempts) -> None:
        try:
            await self.stop_run()
            await attempts.wait_ended()
            # What is undone is read from the journal.
            await self._context.wait_durable()
        except trio.Cancelled:
            self._close()
            raise
        except Exception:
            # A commit was refused: this activation is over.
            self._close()
        self._put_in(RunStopped(), None)

    def _start_committed(self, effect: StartAttempt, committed: Promise[None]) -> None:
        if committed.error is None and not self.writer.closed:
            self.attempts.start(effect)

    def _given(self, key: StepKey) -> None:
        self.attempts.calls.pop(key, None)
        self._inbox.wait_ends(key)


def _stopped() -> Promise[None]:
    return Promise.resolved(None)


def _nothing(*_: object) -> None:
    pass
