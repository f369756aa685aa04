"""What an activation of an instance writes: blocks of its journal, its record, its timer; and what of it is durable.

What one input of the engine appends, sets and consumes goes into one batch, with the instance's record where that
changes. An entry that need not be durable at once (`journal.may_wait`) waits for the batch of the next one that must,
at most START_HELD_MS, so a quick step takes one commit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from edge_runtime.actors.api import ActorAddress, ActorContext
from edge_runtime.event import EventContext
from edge_runtime.promise import Promise
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Table
from edge_runtime.workflows.core.journal import Entry
from edge_runtime.workflows.driver.held_starts import HeldStarts
from edge_runtime.workflows.stored import blocks, instance_keys, instances
from edge_runtime.workflows.stored.blocks import Tail
from edge_runtime.workflows.stored.instances import InstanceRecord


class InstanceWriter:
    """Invariant: entries become durable in their order; `durable_seq` is the last that is."""

    def __init__(
        self,
        context: ActorContext,
        home: ActorAddress,
        record: InstanceRecord,
        seq: int,
        tail: Tail,
        event: EventContext,
        held_starts: HeldStarts,
        on_durable: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self.record = record
        self.durable_seq = seq
        self.committed_any = False
        self.last_commit: Promise[None] = Promise.resolved(None)
        self.closed = False
        """Nothing is written any more."""
        self._context = context
        self._event = event
        self._held_starts = held_starts
        self._on_durable = on_durable
        self._on_refused = on_refused
        self._seq = seq
        self._tail = tail
        self._home = home
        self._journal_key = instance_keys.key_prefix(home)
        self._held: list[Entry] = []
        self._held_watched = False

    def let_go(self) -> None:
        """Tell nobody any more."""
        self._on_durable = self._on_refused = _nothing

    def append(self, entry: Entry) -> None:
        """Have an entry written with the next batch."""
        self._held.append(entry)
        self._seq = entry.seq

    def hold(self) -> None:
        """What was appended may wait."""
        if not self._held_watched and self._held:
            self._held_watched = True
            self._held_starts.watch(self._write_held, self._held[0].seq, self._event)

    def _write_held(self, first_seq: int) -> int | None:
        if not self.closed and self._held:
            if self._held[0].seq != first_seq:
                return self._held[0].seq
            self.commit(Batch())
        self._held_watched = False
        return None

    def write_record(self, batch: Batch, record: InstanceRecord) -> None:
        """Put the record as it is with the entries appended so far."""
        old = self.record
        self.record = msgspec.structs.replace(record, seq=self._seq, updated_ms=self._context.clock.now_ms())
        instances.write(batch, self._home, old, self.record)

    def commit(self, batch: Batch) -> bool:
        """Queue the batch with the entries that wait; False if this actor may not write any more."""
        self._context.events.acknowledge(self._event)
        entries, self._held = self._held, []
        if entries:
            first_seq, stored, self._tail = blocks.follow(self._tail, entries)
            batch.put(Table.JOURNAL, self._journal_key + keys.encode(first_seq), stored)
        committed = self.last_commit = self._context.commit(batch)
        if committed.settled and committed.error is not None:
            self._on_refused()
            return False
        committed.add_done_callback(partial(self._committed, self._seq))
        return True

    def _committed(self, seq: int, committed: Promise[None]) -> None:
        if committed.error is not None:
            # The host breaks the actor; a new activation replays what is durable.
            self._on_refused()
            return
        self.committed_any = True
        if seq > self.durable_seq:
            self.durable_seq = seq
        self._on_durable()


def _nothing() -> None:
    pass
