"""What is written of an instance while no engine of it runs: its hand-over, its restart, its deletion, its end."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from edge_runtime.actors import timers
from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.control import ActorDeath
from edge_runtime.event import EventKind, Outcome
from edge_runtime.limits import QUEUED_LOOK_MS, WORKFLOW_RESUME_MS
from edge_runtime.store.api import Batch, Table
from edge_runtime.store.values import ErrorRecord
from edge_runtime.workflows.core.durable_operations import count_end, count_start
from edge_runtime.workflows.core.journal import Entry
from edge_runtime.workflows.core.restart import restarted
from edge_runtime.workflows.instance import deaths
from edge_runtime.workflows.instance.deaths import Progress
from edge_runtime.workflows.instance.definition import WorkflowDefinition
from edge_runtime.workflows.stored import blocks, inbox, instances, streams
from edge_runtime.workflows.stored.blocks import JournalBroken
from edge_runtime.workflows.stored.inbox import Asked, RestartAsked
from edge_runtime.workflows.stored.instances import InstanceRecord, Status, finished_record, retained_until_ms
from edge_runtime.workflows.stored.journal import StoredJournal

_log = logging.getLogger("edge.workflows")


class AtRest:
    """One instance, for an activation that has no engine just now."""

    def __init__(self, context: ActorContext, home: ActorAddress, definition: WorkflowDefinition) -> None:
        self._context = context
        self._home = home
        self._definition = definition

    def pinned(self, record: InstanceRecord) -> InstanceRecord:
        """The record with the version that the instance begins with, if it begins now and stays with that."""
        if not self._definition.pins or record.pinned or record.finished or record.started_ms is not None:
            return record
        return msgspec.structs.replace(record, pinned=True, version=self._definition.version)

    async def look(self) -> None:
        """The timer is due: delete the instance if it was kept for long enough, or else set when it is due next."""
        context = self._context
        # The end may be queued and not yet readable.
        await context.wait_durable()
        with context.store.snapshot() as snapshot:
            record = instances.read(snapshot, self._home)
        batch = Batch()
        due_ms = None if record is None else self._next_look_ms(record)
        if record is not None and record.finished and due_ms is not None and due_ms <= context.clock.now_ms():
            instances.delete(batch, self._home, record)
            due_ms = None
        context.set_timer(batch, due_ms)
        await context.commit(batch)

    def _next_look_ms(self, record: InstanceRecord) -> int | None:
        """When an instance that has no engine in memory needs attention."""
        now_ms = self._context.clock.now_ms()
        if instances.actor_of(self._home, record) != self._context.address:
            return None
        if record.finished:
            return retained_until_ms(record)
        if record.status is Status.PAUSED:
            return None
        if record.status is Status.QUEUED:
            return record.not_before_ms if record.not_before_ms > now_ms else now_ms + QUEUED_LOOK_MS
        # This activation is over; another will go on.
        return record.not_before_ms if record.not_before_ms > now_ms else now_ms + WORKFLOW_RESUME_MS

    async def hand_over(self, record: InstanceRecord, pinned: InstanceRecord) -> None:
        """Wake the instance where it runs."""
        context, actor = self._context, instances.actor_of(self._home, pinned)
        batch = Batch()
        if pinned is not record:
            instances.write(batch, self._home, record, pinned)
        context.set_timer(batch, None)
        timers.wake(batch, actor, max(context.clock.now_ms(), record.not_before_ms), context.random.uuid())
        await context.commit(batch)
        self._definition.tell(actor.worker)

    async def drop(self, commands: Sequence[Asked], events: Sequence[bytes]) -> None:
        """What arrived after the end has nobody to read it. `events`: where they are stored."""
        batch = Batch()
        for inbox_key in (*(command.inbox_key for command in commands), *events):
            batch.delete(Table.INBOX, inbox_key)
        if batch:
            await self._context.commit(batch)

    async def delete(self, record: InstanceRecord) -> None:
        batch = Batch()
        instances.delete(batch, self._home, record)
        self._context.set_timer(batch, None)
        await self._context.commit(batch)

    async def restart(self, record: InstanceRecord, commands: Sequence[Asked]) -> None:
        """Do what the restarts among `commands` ask for; that supersedes everything that was left before them.

        Raises JournalBroken.
        """
        context, address = self._context, self._home
        with context.store.snapshot() as snapshot:
            entries: list[Entry]
            entries, _ = blocks.load(snapshot, address.worker, address.namespace, address.id, record.seq)
        batch = Batch()
        from_the_top, before = False, entries
        last = max(index for index, command in enumerate(commands) if isinstance(command, RestartAsked))
        now_ms = context.clock.now_ms()
        for command in commands[: last + 1]:
            batch.delete(Table.INBOX, command.inbox_key)
            if isinstance(command, RestartAsked):
                entries = restarted(entries, command.origin, now_ms)
                from_the_top = from_the_top or command.origin is None
        with context.store.snapshot() as snapshot:
            for inbox_key in inbox.event_keys(snapshot, address, before=commands[last]):
                batch.delete(Table.INBOX, inbox_key)
        batch.delete_range(Table.JOURNAL, *blocks.key_range(address.worker, address.namespace, address.id))
        instances.forget_answers(batch, address)
        streams.forget_dropped(batch, address, before, entries)
        blocks.write(batch, address, entries)
        anew = msgspec.structs.replace(
            record,
            status=Status.QUEUED,
            seq=len(entries),
            updated_ms=now_ms,
            not_before_ms=0,
            deaths=deaths.none_since(record),
            started_ms=None,
            ended_ms=None,
            output=None,
            error=None,
            # Nothing is left that only its version would fit.
            pinned=record.pinned and not from_the_top,
        )
        instances.write(batch, address, record, anew)
        context.set_timer(batch, now_ms + WORKFLOW_RESUME_MS)
        await context.commit(batch)

    async def count_death(self, record: InstanceRecord, death: ActorDeath) -> None:
        """Take note, before the script runs again, that it has ended an isolate; the instance is left alone for a
        while, or fails. Raises JournalBroken."""
        context, home = self._context, self._home
        progress = Progress()
        await StoredJournal(context.store, home).load(record.seq, progress.take)
        batch = Batch()
        died = deaths.counted(record, death, progress.steps_done)
        error = deaths.failure(died, death)
        if error is None:
            instances.write(batch, home, record, died)
            context.set_timer(batch, max(context.clock.now_ms(), died.not_before_ms))
            await context.commit(batch)
            return
        event = context.events.begin(EventKind.WORKFLOW, home.namespace, actor=context)
        if record.started_ms is None and progress.created is not None:
            count_start(event.meter.quantities, progress.created)
        count_end(event.meter.quantities, None, error)
        self._fail(batch, record, died, error)
        context.events.end(event, Outcome.EXCEPTION, f"{home.id} errored", f"{error.name}: {error.message}\n")
        await context.commit(batch)

    def _fail(self, batch: Batch, record: InstanceRecord, last: InstanceRecord, error: ErrorRecord) -> None:
        ended = finished_record(last, "errored", None, error, self._context.clock.now_ms())
        instances.write(batch, self._home, record, ended)
        self._context.set_timer(batch, retained_until_ms(ended))

    def end_broken(self, record: InstanceRecord, error: JournalBroken) -> None:
        """Never run from a damaged journal: what it does not show would be done a second time."""
        context = self._context
        _log.error("workflow %s, instance %s: %s", context.address.namespace, context.address.id, error)
        text = f"The journal of this instance is damaged, so it cannot go on: {error}"
        batch = Batch()
        self._fail(batch, record, record, ErrorRecord("JournalBroken", text))
        context.commit(batch)
