"""What the effects of one input write: entries, the timer, the inbox, the instance's record, in one batch."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import msgspec

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.promise import Promise
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.transaction import Transaction
from edge_runtime.workflows.core import journal
from edge_runtime.workflows.core.durable_operations import count_end, count_entry
from edge_runtime.workflows.core.effects import (
    Append,
    Consume,
    Effect,
    Fault,
    Finish,
    Relaunch,
    Resolve,
    SetTimer,
    StartAttempt,
    Suspend,
)
from edge_runtime.workflows.core.engine import Engine
from edge_runtime.workflows.core.journal import StepFailed, StepKey, StepSucceeded
from edge_runtime.workflows.driver.endings import Ended
from edge_runtime.workflows.driver.inbox_reader import InboxReader
from edge_runtime.workflows.driver.shown_state import shown_record, status_of
from edge_runtime.workflows.driver.writing import InstanceWriter
from edge_runtime.workflows.stored import inbox, instances
from edge_runtime.workflows.stored.instances import Status, finished_record


class Recorded(msgspec.Struct):
    """What is left to do once the batch is queued."""

    later: list[Effect]
    """The effects that write nothing, in order."""
    ended: Ended | None
    """How the engine has ended, if it has."""
    at_rest: bool
    """The instance waits and there was nothing to be written."""


class Recorder:
    def __init__(
        self,
        context: ActorContext,
        home: ActorAddress,
        engine: Engine,
        writer: InstanceWriter,
        inbox_reader: InboxReader,
        quantities: defaultdict[str, int],
        version: str,
    ) -> None:
        self._context = context
        self._home = home
        self._engine = engine
        self._writer = writer
        self._inbox = inbox_reader
        self._quantities = quantities
        self._version = version
        self.transactional: set[StepKey] = set()
        """Steps whose writes are committed with their results."""

    def record(self, effects: list[Effect], writes: Transaction | None) -> Recorded | None:
        """Queue what the effects write, or hold it where it may wait; None if nothing may be written any more.

        `writes` become durable with the result of their step.
        """
        writer, quantities = self._writer, self._quantities
        batch = Batch()
        written = batch.operations
        finish: Finish | None = None
        ended: Ended | None = None
        fault = ""
        later: list[Effect] = []
        appended = False
        consumed: list[bytes] = []
        may_wait = writer.committed_any
        for effect in effects:
            # What every step has comes first, and is told by its type alone.
            if type(effect) is Append:
                entry = effect.entry
                if self.transactional and isinstance(entry, StepSucceeded | StepFailed):
                    self._end_transaction(batch, entry, writes)
                writer.append(entry)
                count_entry(quantities, entry)
                appended = True
                may_wait = may_wait and journal.may_wait(entry)
                continue
            if type(effect) is StartAttempt or type(effect) is Resolve:
                later.append(effect)
                continue
            match effect:
                case Consume(inbox_key):
                    batch.delete(Table.INBOX, inbox_key)
                    consumed.append(inbox_key)
                case SetTimer(due_ms):
                    self._context.set_timer(batch, due_ms)
                case Finish():
                    finish, ended = effect, Ended(effect)
                    count_end(quantities, effect.output, effect.error)
                case Fault(difference):
                    fault, ended = difference, Ended(fault=difference)
                case Suspend():
                    ended = Ended()
                case Relaunch():
                    ended = Ended(relaunch=True)
                case _:
                    later.append(effect)
        status = Status.PAUSED if fault else status_of(self._engine)
        if finish is not None or written or status is not writer.record.status:
            self._write_record(batch, status, finish, fault)
        at_rest = False
        if written or (appended and not may_wait):
            if not writer.commit(batch):
                return None
            for inbox_key in consumed:
                self._inbox.recorded(inbox_key, writer.last_commit)
            if writes is not None:
                writer.last_commit.add_done_callback(partial(_tell_others, writes))
        elif appended:
            writer.hold()
        else:
            at_rest = status is Status.WAITING
        return Recorded(later, ended, at_rest)

    def queue(self, due_ms: int) -> None:
        """Show the instance as queued until `due_ms`."""
        batch = Batch()
        self._context.set_timer(batch, due_ms)
        self._write_record(batch, Status.QUEUED, None, "")
        self._writer.commit(batch)

    def _write_record(self, batch: Batch, status: Status, finish: Finish | None, fault: str) -> None:
        old, now_ms = self._writer.record, self._context.clock.now_ms()
        if finish is None:
            record = shown_record(old, self._engine, status, fault, self._version, now_ms)
        else:
            record = finished_record(old, finish.status, finish.output, finish.error, now_ms)
            # Events only: a command may have arrived that nobody has read yet.
            with self._context.store.snapshot() as snapshot:
                for inbox_key in inbox.event_keys(snapshot, self._home):
                    batch.delete(Table.INBOX, inbox_key)
            self._context.set_timer(batch, instances.retained_until_ms(record))
        self._writer.write_record(batch, record)

    def _end_transaction(self, batch: Batch, entry: StepSucceeded | StepFailed, writes: Transaction | None) -> None:
        if entry.key in self.transactional:
            self.transactional.remove(entry.key)
            if writes is not None and isinstance(entry, StepSucceeded):
                batch.extend(writes.batch)
            instances.forget_answers(batch, self._home, entry.key)


def _tell_others(writes: Transaction, committed: Promise[None]) -> None:
    if committed.error is None:
        for tell in writes.when_durable:
            tell()
