"""The journal of one instance as an activation reads it: once from the beginning, in parts; single entries again."""

from __future__ import annotations

from collections.abc import Callable

import trio

from edge_runtime.actors.api import ActorAddress
from edge_runtime.limits import JOURNAL_PART_BYTES
from edge_runtime.store import keys
from edge_runtime.store.api import Store, Table
from edge_runtime.workflows.core.journal import Entry
from edge_runtime.workflows.stored import blocks, instance_keys
from edge_runtime.workflows.stored.blocks import Chain, JournalBroken, Tail


class StoredJournal:
    """Nobody else may write the journal meanwhile."""

    def __init__(self, store: Store, address: ActorAddress) -> None:
        self._store = store
        self._prefix = instance_keys.key_prefix(address)
        self._range = blocks.key_range(address.worker, address.namespace, address.id)
        self._block: list[Entry] = []
        """What was recalled last: a step that took no time has its two entries in one block."""

    async def load(self, seq: int, take: Callable[[list[Entry]], None]) -> Tail:
        """Give `take` all entries, block by block, at least those up to `seq`; returns what the next block follows.

        Other tasks have their turn after each part of JOURNAL_PART_BYTES. Raises JournalBroken naming the place where
        an entry is missing, surplus or changed.
        """
        chain = Chain()
        start, end = self._range
        while True:
            read = 0
            with self._store.snapshot() as snapshot:
                for key, value in snapshot.scan(Table.JOURNAL, start, end):
                    take(chain.follow(value))
                    read += len(value)
                    if read >= JOURNAL_PART_BYTES:
                        start = keys.after(key)
                        break
                else:
                    break
            await trio.lowlevel.checkpoint()
        chain.require(seq)
        return chain.tail

    def entry(self, seq: int) -> Entry:
        """One entry of those that are stored."""
        block = self._block
        if not block or not block[0].seq <= seq <= block[-1].seq:
            start, end = self._prefix, self._prefix + keys.encode(seq + 1)
            with self._store.snapshot() as snapshot:
                _, stored = next(snapshot.scan(Table.JOURNAL, start, end, reverse=True), (b"", b""))
            block = self._block = blocks.decode_verified(stored)
            if not block[0].seq <= seq <= block[-1].seq:
                raise JournalBroken(f"entry {seq} is missing")
        return block[seq - block[0].seq]
