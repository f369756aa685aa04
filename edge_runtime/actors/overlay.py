"""What an object's storage holds, as its own code sees it: durable entries, newer writes over them, open transactions.

Values are encoded; limits, conversion and the alarm's rules are `storage`'s. Table.OBJECTS holds
encode(worker, namespace, id, key) -> values.encode(value). Keys are compared as strings, which is the order of their
UTF-8 bytes and so the store's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.actors.api import ActorContext
from edge_runtime.actors.read_cache import ReadCache
from edge_runtime.actors.turns import Turn
from edge_runtime.errors import ActorBroken, StoreCorrupt
from edge_runtime.promise import Promise
from edge_runtime.store import keys
from edge_runtime.store.api import Table


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys a list is about; each bound that is given narrows it."""

    start: str | None = None
    start_after: str | None = None
    end: str | None = None
    prefix: str = ""

    def holds(self, key: str) -> bool:
        return (
            (self.start is None or key >= self.start)
            and (self.start_after is None or key > self.start_after)
            and (self.end is None or key < self.end)
            and key.startswith(self.prefix)
        )


class Layer:
    """The writes of one transaction that is not committed; None is a deletion."""

    __slots__ = ("alarm_ms", "alarm_set", "entries")

    def __init__(self) -> None:
        self.entries: dict[str, bytes | None] = {}
        self.alarm_set = False
        self.alarm_ms: int | None = None


class Overlay:
    """Reads see every earlier write of the same object at once; writes go to the turn's batch, or to the innermost
    transaction that is open."""

    def __init__(self, context: ActorContext) -> None:
        self.context = context
        self._store = context.store
        address = context.address
        self._address = (address.worker, address.namespace, address.id)
        self._head = keys.encode(*self._address)
        self._unwritten: dict[str, tuple[int, bytes | None]] = {}
        """By key: the number of the turn that wrote it, and what."""
        self._cleared_in = 0
        """The turn of the last `clear` that is not durable yet; 0: none."""
        self._turn: Turn | None = None
        self._turns = 0
        self._layers: list[Layer] = []
        """Transactions that are open, the outermost first."""
        self.cache = ReadCache()
        """Of what `read` gives outside of transactions, decoded by the caller."""
        self.alarm_written = False
        """Whoever runs the alarm's handler clears this before, to see after whether it set or deleted the alarm."""

    @property
    def refusal(self) -> ActorBroken | None:
        """Why there is nothing more to read and write here: the object was reset, its code may still be running."""
        return self.context.refusal

    @property
    def in_transaction(self) -> bool:
        return bool(self._layers)

    def transaction_alarm(self) -> tuple[bool, int | None]:
        """Whether an open transaction has set or deleted the alarm, and to when."""
        for layer in reversed(self._layers):
            if layer.alarm_set:
                return True, layer.alarm_ms
        return False, None

    def begin(self) -> Layer:
        self._layers.append(Layer())
        return self._layers[-1]

    def end(self, layer: Layer, *, commit: bool) -> None:
        """Close a transaction: its writes go to the one around it, or to the turn's batch, all in the same turn."""
        at = self._layers.index(layer)
        del self._layers[at]
        if not commit:
            return
        if at:
            self._layers[at - 1].entries.update(layer.entries)
            if layer.alarm_set:
                self._layers[at - 1].alarm_set = True
                self._layers[at - 1].alarm_ms = layer.alarm_ms
            return
        for key, data in layer.entries.items():
            self._write(key, data, confirmed=True)
        if layer.alarm_set:
            self.write_alarm(layer.alarm_ms, confirmed=True)

    def read(self, key: str) -> bytes | None:
        if self._layers:
            for layer in reversed(self._layers):
                if key in layer.entries:
                    return layer.entries[key]
        if key in self._unwritten:
            return self._unwritten[key][1]
        if self._cleared_in:
            return None
        return self._store.get(Table.OBJECTS, self._head + keys.encode_str(key))

    def write(self, key: str, data: bytes | None, *, confirmed: bool) -> None:
        """Put, or with None delete. Without `confirmed` replies do not wait for it."""
        if self._layers:
            self._layers[-1].entries[key] = data
        else:
            self._write(key, data, confirmed=confirmed)

    def _write(self, key: str, data: bytes | None, *, confirmed: bool) -> None:
        turn = self.turn(confirmed=confirmed)
        self.cache.forget(key)
        self._unwritten[key] = (self._turns, data)
        stored_key = self._head + keys.encode_str(key)
        if data is None:
            turn.batch.delete(Table.OBJECTS, stored_key)
        else:
            turn.batch.put(Table.OBJECTS, stored_key, data)

    def write_alarm(self, due_ms: int | None, *, confirmed: bool) -> None:
        if self._layers:
            self._layers[-1].alarm_set = True
            self._layers[-1].alarm_ms = due_ms
        else:
            self.alarm_written = True
            self.context.set_timer(self.turn(confirmed=confirmed).batch, due_ms)

    def clear(self, *, confirmed: bool, forget: bool) -> None:
        """Delete every entry, and with `forget` also the actor's record and alarm."""
        turn = self.turn(confirmed=confirmed)
        start, end = keys.prefix_range(*self._address)
        turn.batch.delete_range(Table.OBJECTS, start, end)
        self._unwritten.clear()
        self.cache.clear()
        self._cleared_in = self._turns
        if forget:
            self.alarm_written = True
            self.context.forget(turn.batch)

    def scan(self, keys_in: KeyRange, *, reverse: bool = False) -> Iterator[tuple[str, bytes]]:
        """Entries in order; to be used up without awaiting in between."""
        changed: dict[str, bytes | None] = {
            key: data for key, (_, data) in self._unwritten.items() if keys_in.holds(key)
        }
        for layer in self._layers:
            changed.update({key: data for key, data in layer.entries.items() if keys_in.holds(key)})
        stored = iter(()) if self._cleared_in else self._scan_stored(keys_in, reverse)
        if not changed:
            yield from stored
            return
        pending = sorted(changed, reverse=reverse)
        at = 0
        for key, data in stored:
            while at < len(pending) and (pending[at] > key if reverse else pending[at] < key):
                if (newer := changed[pending[at]]) is not None:
                    yield pending[at], newer
                at += 1
            if key not in changed:
                yield key, data
        for key in pending[at:]:
            if (newer := changed[key]) is not None:
                yield key, newer

    def _scan_stored(self, keys_in: KeyRange, reverse: bool) -> Iterator[tuple[str, bytes]]:
        start, end = keys.prefix_range(*self._address, partial=keys_in.prefix or None)
        if keys_in.start is not None:
            start = max(start, self.stored_key(keys_in.start))
        if keys_in.start_after is not None:
            start = max(start, keys.after(self.stored_key(keys_in.start_after)))
        if keys_in.end is not None:
            end = min(end, self.stored_key(keys_in.end))
        if start >= end:
            return
        skip = len(self._head)
        with self.context.store.snapshot() as snapshot:
            for stored, data in snapshot.scan(Table.OBJECTS, start, end, reverse=reverse):
                (key,) = keys.decode(stored[skip:])
                if not isinstance(key, str):
                    raise StoreCorrupt(f"an object's entry has the key {stored!r}")
                yield key, data

    def stored_key(self, key: str) -> bytes:
        return self._head + keys.encode_str(key)

    def turn(self, *, confirmed: bool) -> Turn:
        turn = self.context.turn()
        if turn is not self._turn:
            self._turn = turn
            self._turns += 1
            number = self._turns
            turn.durable.add_done_callback(lambda written: self._durable(number, written))
        if confirmed:
            turn.confirmed = True
        return turn

    def _durable(self, number: int, written: Promise[None]) -> None:
        """Forget what the store has now; after a failure the actor is broken and nothing is forgotten."""
        if written.error is not None:
            return
        if number == self._turns:
            self._turn = None
            self._unwritten.clear()
        else:
            self._unwritten = {key: entry for key, entry in self._unwritten.items() if entry[0] > number}
        if self._cleared_in <= number:
            self._cleared_in = 0

    def when_durable(self) -> Promise[None]:
        """Resolves when everything written so far is durable."""
        self.context.flush()
        return Promise.resolved(None) if self._turn is None else self._turn.durable
