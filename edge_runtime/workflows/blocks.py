"""How a journal is stored: in blocks chained to one another, each with the entries that were committed together.

Key: (worker, workflow, `keys.short` of the instance's id, number of the first entry) in Table.JOURNAL. Value: one byte
version (3), a digest of 8 bytes over the previous block's digest and the body, then the body, which is MessagePack of
the list of entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import keys
from edge_runtime.store.api import Snapshot, Table
from edge_runtime.workflows.journal import Entry

_VERSION: Final = b"\x03"
_DIGEST: Final = 8
_HEADER: Final = 1 + _DIGEST
FIRST_DIGEST: Final = bytes(_DIGEST)
"""What the first block is chained to."""


class JournalBroken(StoreCorrupt):
    """The entries are not the unbroken chain that was written; the instance must not run from them."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(list[Entry]).decode


def encode(entries: Sequence[Entry], previous: bytes) -> tuple[bytes, bytes]:
    """(stored value, digest) of a block that follows the one with digest `previous`."""
    body = _ENCODE(entries)
    digest = blake2b(previous + body, digest_size=_DIGEST).digest()
    return _VERSION + digest + body, digest


def decode(stored: bytes, previous: bytes) -> tuple[list[Entry], bytes]:
    """(entries, digest). Raises JournalBroken if the bytes do not follow `previous` or are no block."""
    digest, body = stored[1:_HEADER], stored[_HEADER:]
    if stored[:1] != _VERSION:
        raise JournalBroken(f"it has format {stored[:1].hex() or 'none'}, known is {_VERSION.hex()}")
    if blake2b(previous + body, digest_size=_DIGEST).digest() != digest:
        raise JournalBroken("its digest does not follow from the block before it")
    try:
        return _DECODE(body), digest
    except msgspec.DecodeError as error:
        raise JournalBroken(f"it is not a block of this version: {error}") from error


def key(worker: str, workflow: str, instance: str, seq: int) -> bytes:
    """Of the block that begins with entry `seq`."""
    return keys.head(worker, workflow, keys.short(instance)) + keys.encode(seq)


def key_range(worker: str, workflow: str, instance: str) -> tuple[bytes, bytes]:
    """(start, end) of all entries of an instance."""
    return keys.prefix_range(worker, workflow, keys.short(instance))


class Loaded(NamedTuple):
    entries: list[Entry]
    digest: bytes


def load(snapshot: Snapshot, worker: str, workflow: str, instance: str, seq: int) -> Loaded:
    """All entries, at least those up to `seq`, which is what the instance's record says there were.

    Raises JournalBroken naming the place where one is missing, surplus or changed.
    """
    start, end = key_range(worker, workflow, instance)
    loaded = _read_chain(value for _, value in snapshot.scan(Table.JOURNAL, start, end))
    if len(loaded.entries) < seq:
        raise JournalBroken(f"{len(loaded.entries)} entries are stored, the instance's record says at least {seq}")
    return loaded


def _read_chain(stored: Iterable[bytes]) -> Loaded:
    entries: list[Entry] = []
    digest = FIRST_DIGEST
    for value in stored:
        place = len(entries) + 1
        try:
            block, digest = decode(value, digest)
        except JournalBroken as error:
            raise JournalBroken(f"the block of entry {place} is damaged: {error}") from error
        for number, entry in enumerate(block, place):
            if entry.seq != number:
                raise JournalBroken(f"entry {number} is missing; entry {entry.seq} is in its place")
        entries += block
    return Loaded(entries, digest)
