"""Deleting what has expired, in the background.

Reads hide an expired entry at once; this gives its space back. The index by expiration makes a round cost as much as
there is to delete. Every isolate that has a KV binding sweeps the whole data directory: deletions expect the record
that was seen, so a key that was written again meanwhile is left alone, whoever wrote it.
"""

from __future__ import annotations

from itertools import islice

from bindings.kv import entries
from edge_runtime.errors import Conflict
from edge_runtime.limits import KV_SWEEP_BATCH, KV_SWEEP_MAX_MS
from edge_runtime.promise import Promise
from edge_runtime.seams import Clock, Randomness
from edge_runtime.store.api import Batch, Snapshot, Store, Table

_JITTER_MS = 1000


async def sweep_forever(store: Store, clock: Clock, random: Randomness) -> None:
    """Sweep whenever something has expired; cancelled by the caller. Raises StoreFailed when the store has failed.

    The jitter keeps isolates from deleting the same entries at the same moment.
    """
    while True:
        while await sweep_once(store, clock.now_ms()):
            pass
        now_ms = clock.now_ms()
        with store.snapshot() as snapshot:
            due_ms = next_expiry_ms(snapshot, now_ms)
        latest_ms = now_ms + KV_SWEEP_MAX_MS
        due_ms = latest_ms if due_ms is None else min(due_ms, latest_ms)
        await clock.sleep_until_ms(due_ms + int.from_bytes(random.bytes(2), "big") % _JITTER_MS)


async def sweep_once(store: Store, now_ms: int) -> int:
    """Delete up to KV_SWEEP_BATCH expired entries; returns how many index entries were looked at."""
    with store.snapshot() as snapshot:
        batches = [
            removal(snapshot, index_key)
            for index_key in islice(snapshot.keys(Table.KV, *entries.expired_range(now_ms)), KV_SWEEP_BATCH)
        ]
    commits: list[Promise[None]] = [store.commit(batch) for batch in batches]
    for commit in commits:
        try:
            await commit
        except Conflict:
            continue  # written again since the snapshot; the next round decides anew
    return len(batches)


def next_expiry_ms(snapshot: Snapshot, now_ms: int) -> int | None:
    """When the next entry expires, as the index has it."""
    for index_key in snapshot.keys(Table.KV, *entries.scheduled_range(now_ms)):
        return entries.decode_expiry_key(index_key)[0] * 1000
    return None


def removal(snapshot: Snapshot, index_key: bytes) -> Batch:
    """What removes an index entry and, unless the key has another expiration by now, the entry it points to."""
    expires_s, namespace, name = entries.decode_expiry_key(index_key)
    entry_key = entries.entry_key(namespace, name)
    record = snapshot.get(Table.KV, entry_key)
    batch = Batch().expect(Table.KV, entry_key, record)
    if record is not None and entries.decode_record(record).expires_s == expires_s:
        batch.delete(Table.KV, entry_key)
        batch.delete(Table.KV, entries.value_key(namespace, name))
    return batch.delete(Table.KV, index_key)
