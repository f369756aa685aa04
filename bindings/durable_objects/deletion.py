"""Removing everything that the objects of a class have stored."""

from __future__ import annotations

from edge_runtime.actors.api import ActorAddress, ActorKind
from edge_runtime.actors.timers import addresses, forget
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Store, Table

_OBJECTS_PER_BATCH = 256


async def delete_namespace(store: Store, worker: str, namespace: str) -> None:
    """Delete entries, records and timers. Nobody may be using the namespace; repeating it is harmless."""
    while found := _some_objects(store, worker, namespace):
        batch = Batch()
        with store.snapshot() as snapshot:
            for address in found:
                forget(batch, snapshot, address)
        await store.commit(batch)
    start, end = keys.prefix_range(worker, namespace)
    with store.snapshot() as snapshot:
        empty = next(iter(snapshot.keys(Table.OBJECTS, start, end)), None) is None
    if not empty:
        await store.commit(Batch().delete_range(Table.OBJECTS, start, end))


def _some_objects(store: Store, worker: str, namespace: str) -> list[ActorAddress]:
    with store.snapshot() as snapshot:
        return addresses(snapshot, worker, ActorKind.OBJECT, namespace, _OBJECTS_PER_BATCH)
