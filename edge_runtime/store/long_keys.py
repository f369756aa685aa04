"""Keys of any length in a B-tree whose own keys are at most LMDB_KEY_MAX bytes.

A key of up to SPLIT bytes is stored as it is. A longer one is cut after SPLIT bytes: the head with one 0x00 appended is
stored in the same place with the id of a node as its value, and the rest is stored in the database of nodes, behind
that id, by the same rule. No other stored key is longer than SPLIT bytes, so a node's mark sorts exactly where the keys
behind it belong: after the bare head and before everything greater. Nodes that become empty are removed.

    key                     database     stored key                value
    K, at most SPLIT        the table    K                         the entry
    H + R, H = SPLIT bytes  the table    H + 0x00                  id (8 bytes)
                            nodes        id + R (cut again?)       the entry

The functions take LMDB transactions opened without `buffers`, and know of no other part of the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from edge_runtime.limits import LMDB_KEY_MAX

ID_BYTES: Final = 8
SPLIT: Final = LMDB_KEY_MAX - ID_BYTES - 1
_MARK: Final = b"\x00"
_AFTER_MARK: Final = b"\x01"

Transaction = Any
"""An `lmdb.Transaction[bytes]`; py-lmdb has no type that both of its engines share."""
Database = Any


class Place(NamedTuple):
    """Where an entry is stored."""

    database: Database
    key: bytes


def find(txn: Transaction, table: Database, nodes: Database, key: bytes) -> Place | None:
    """The place of a key; None if a node on the way does not exist, and so neither does the entry."""
    place = Place(table, key)
    base = b""
    while len(key) > SPLIT:
        node = txn.get(base + key[:SPLIT] + _MARK, None, place.database)
        if node is None:
            return None
        base, key = node, key[SPLIT:]
        place = Place(nodes, base + key)
    return place


def make(txn: Transaction, table: Database, nodes: Database, key: bytes, new_id: Callable[[], bytes]) -> Place:
    """The place of a key, with the nodes on the way made if they do not exist. `new_id` gives unused ids."""
    place = Place(table, key)
    base = b""
    while len(key) > SPLIT:
        mark = base + key[:SPLIT] + _MARK
        node = txn.get(mark, None, place.database)
        if node is None:
            node = new_id()
            txn.put(mark, node, db=place.database)
        base, key = node, key[SPLIT:]
        place = Place(nodes, base + key)
    return place


def prune(txn: Transaction, table: Database, nodes: Database, key: bytes) -> None:
    """Remove the nodes on the way to a deleted key that are empty now."""
    marks: list[tuple[Database, bytes, bytes]] = []
    database, base = table, b""
    while len(key) > SPLIT:
        mark = base + key[:SPLIT] + _MARK
        node = txn.get(mark, None, database)
        if node is None:
            break
        marks.append((database, mark, node))
        database, base, key = nodes, node, key[SPLIT:]
    for database, mark, node in reversed(marks):
        with txn.cursor(nodes) as cursor:
            if cursor.set_range(node) and cursor.key().startswith(node):
                return
        txn.delete(mark, db=database)


def walk(
    txn: Transaction,
    table: Database,
    nodes: Database,
    start: bytes,
    end: bytes | None,
    *,
    reverse: bool,
    values: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """Keys with start <= key < end and their entries, in order or reversed. Without `values`, entries are b""."""
    return _walk(txn, table, nodes, b"", b"", start, end, reverse, values)


def _walk(
    txn: Transaction,
    database: Database,
    nodes: Database,
    base: bytes,
    head: bytes,
    start: bytes,
    end: bytes | None,
    reverse: bool,
    values: bool,
) -> Iterator[tuple[bytes, bytes]]:
    """The entries behind a node: `base` is its id, `head` the keys' bytes before it; `start` and `end` come after."""
    first = base + (start if len(start) <= SPLIT else start[:SPLIT] + _MARK)
    stop = _stop(base, end)
    skip, longest = len(base), len(base) + SPLIT
    with txn.cursor(database) as cursor:
        if reverse:
            found = cursor.prev() if stop is not None and cursor.set_range(stop) else cursor.last()
        else:
            found = cursor.set_range(first) if first else cursor.first()
        if not found:
            return
        entries = cursor.iterprev(True, values) if reverse else cursor.iternext(True, values)
        for found in entries:
            key, value = found if values else (found, b"")
            if (key < first) if reverse else (stop is not None and key >= stop):
                return
            if len(key) <= longest:
                yield head + key[skip:], value
            else:
                cut = key[skip:-1]
                node = value if values else txn.get(key, None, database)
                inner_start = start[SPLIT:] if start[:SPLIT] == cut else b""
                inner_end = end[SPLIT:] if end is not None and len(end) > SPLIT and end[:SPLIT] == cut else None
                yield from _walk(txn, nodes, nodes, node, head + cut, inner_start, inner_end, reverse, values)


def _stop(base: bytes, end: bytes | None) -> bytes | None:
    """The stored key at which a walk below `end` stops; None for the end of the database."""
    if end is None:
        return (int.from_bytes(base, "big") + 1).to_bytes(ID_BYTES, "big") if base else None
    return base + (end if len(end) <= SPLIT else end[:SPLIT] + _AFTER_MARK)
