"""Entries: values as they are stored, large ones in pieces.

An entry is one byte that says how, then

    0x00    the value
    0x01    id (8 bytes) and length (8 bytes) of a value whose pieces are in Table.CHUNKS

Pieces are STORE_CHUNK bytes, the last one fewer, under id + index (4 bytes). LMDB wants contiguous pages for each
stored value, and in a fragmented file long runs of free pages are rare.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import STORE_CHUNK

INLINE: Final = b"\x00"
_CHUNKED: Final = b"\x01"
_REFERENCE_BYTES: Final = 17

Transaction = Any
Database = Any


def write(txn: Transaction, chunks: Database, value: bytes, new_id: Callable[[], bytes]) -> bytes:
    """The entry of a value; stores its pieces if it is large."""
    if len(value) <= STORE_CHUNK:
        return INLINE + value
    identity = new_id()
    for index, at in enumerate(range(0, len(value), STORE_CHUNK)):
        txn.put(_piece_key(identity, index), value[at : at + STORE_CHUNK], db=chunks)
    return _CHUNKED + identity + len(value).to_bytes(8, "big")


def read(txn: Transaction, chunks: Database, entry: bytes) -> bytes:
    """The value of an entry."""
    if entry[:1] == INLINE:
        return entry[1:]
    identity, length = _reference(entry)
    pieces = []
    for index in range(_count(length)):
        piece = txn.get(_piece_key(identity, index), None, chunks)
        if piece is None:
            raise StoreCorrupt(f"piece {index} of a value of {length} bytes is missing")
        pieces.append(piece)
    value = b"".join(pieces)
    if len(value) != length:
        raise StoreCorrupt(f"a value of {length} bytes has pieces of {len(value)} bytes")
    return value


def free(txn: Transaction, chunks: Database, entry: bytes) -> None:
    """Delete the pieces of an entry that is about to be deleted or overwritten."""
    if entry[:1] != INLINE:
        identity, length = _reference(entry)
        for index in range(_count(length)):
            txn.delete(_piece_key(identity, index), db=chunks)


def check(txn: Transaction, chunks: Database, entry: bytes) -> None:
    """Raise StoreCorrupt unless the entry has a known form and the pieces it refers to exist."""
    if entry[:1] != INLINE:
        identity, length = _reference(entry)
        with txn.cursor(chunks) as cursor:
            for index in range(_count(length)):
                if not cursor.set_key(_piece_key(identity, index)):
                    raise StoreCorrupt(f"piece {index} of a value of {length} bytes is missing")


def _reference(entry: bytes) -> tuple[bytes, int]:
    if entry[:1] != _CHUNKED or len(entry) != _REFERENCE_BYTES:
        raise StoreCorrupt(f"an entry of {len(entry)} bytes has the unknown form {entry[:1].hex() or 'none'}")
    return entry[1:9], int.from_bytes(entry[9:], "big")


def _count(length: int) -> int:
    return -(-length // STORE_CHUNK)


def _piece_key(identity: bytes, index: int) -> bytes:
    return identity + index.to_bytes(4, "big")
