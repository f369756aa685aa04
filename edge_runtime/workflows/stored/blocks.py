"""How a journal is stored: in blocks chained to one another, each with the entries that were committed together.

A last block that is small is written anew with the entries that follow, as one: most steps are small, and a key and a
digest for each would take as much as what they say. So blocks have about JOURNAL_BLOCK_SMALL bytes at least, but for
the last.

Key: (`keys.short` of the instance's id, worker, workflow, number of the first entry) in Table.JOURNAL. Value: one byte
version (3), a digest of 8 bytes over the previous block's digest and the body, then the body, which is MessagePack of
the list of entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from edge_runtime.actors.api import ActorAddress
from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import JOURNAL_BLOCK_SMALL
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table
from edge_runtime.workflows.core.journal import Entry

_VERSION: Final = b"\x03"
_DIGEST: Final = 8
_HEADER: Final = 1 + _DIGEST
FIRST_DIGEST: Final = bytes(_DIGEST)
"""What the first block is chained to."""


class JournalBroken(StoreCorrupt):
    """The entries are not the unbroken chain that was written; the instance must not run from them."""


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_PART_BYTES: Final = 64 * 1024  # of a journal that is written anew: what is decoded to read one of its entries
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
    return _decode_body(body), digest


def decode_verified(stored: bytes) -> list[Entry]:
    """The entries of a block that was read before, as part of the chain."""
    return _decode_body(stored[_HEADER:])


def _decode_body(body: bytes) -> list[Entry]:
    try:
        return _DECODE(body)
    except msgspec.DecodeError as error:
        raise JournalBroken(f"it is not a block of this version: {error}") from error


def key(worker: str, workflow: str, instance: str, seq: int) -> bytes:
    """Of the block that begins with entry `seq`."""
    return keys.encode_id(instance) + keys.head(worker, workflow) + keys.encode(seq)


def key_range(worker: str, workflow: str, instance: str) -> tuple[bytes, bytes]:
    """(start, end) of all entries of an instance."""
    start = keys.encode_id(instance) + keys.head(worker, workflow)
    return start, start + b"\xff"


class Tail(NamedTuple):
    """What the next block follows."""

    digest: bytes
    """Of the last block that stays as it is."""
    entries: Sequence[Entry] = ()
    """Those of the last block, if it is to be written anew."""


FIRST: Final = Tail(FIRST_DIGEST)


def follow(tail: Tail, entries: Sequence[Entry]) -> tuple[int, bytes, Tail]:
    """(number of the first entry, stored value, tail afterwards) of the block to be written for further entries."""
    entries = [*tail.entries, *entries]
    stored, digest = encode(entries, tail.digest)
    return entries[0].seq, stored, _tail(tail.digest, digest, entries, len(stored))


def _tail(before: bytes, digest: bytes, entries: Sequence[Entry], size: int) -> Tail:
    """After a block of this digest and size that follows the digest `before`."""
    return Tail(before, entries) if size < JOURNAL_BLOCK_SMALL else Tail(digest)


class Chain:
    """Blocks read one after the other, from the first."""

    def __init__(self) -> None:
        self.tail = FIRST
        self.seq = 0
        """Of the last entry."""
        self._digest = FIRST_DIGEST

    def follow(self, stored: bytes) -> list[Entry]:
        """The entries of the next block. Raises JournalBroken naming the place where one is missing or changed."""
        place, before = self.seq + 1, self._digest
        try:
            block, self._digest = decode(stored, before)
        except JournalBroken as error:
            raise JournalBroken(f"the block of entry {place} is damaged: {error}") from error
        for number, entry in enumerate(block, place):
            if entry.seq != number:
                raise JournalBroken(f"entry {number} is missing; entry {entry.seq} is in its place")
        self.seq += len(block)
        self.tail = _tail(before, self._digest, block, len(stored))
        return block

    def require(self, seq: int) -> None:
        """Raises JournalBroken unless there have been `seq` entries, which is what the instance's record says."""
        if self.seq < seq:
            raise JournalBroken(f"{self.seq} entries are stored, the instance's record says at least {seq}")


class Loaded(NamedTuple):
    entries: list[Entry]
    tail: Tail


def load(snapshot: Snapshot, worker: str, workflow: str, instance: str, seq: int) -> Loaded:
    """All entries, at least those up to `seq`, which is what the instance's record says there were.

    Raises JournalBroken naming the place where one is missing, surplus or changed.
    """
    chain = Chain()
    entries: list[Entry] = []
    for _, value in snapshot.scan(Table.JOURNAL, *key_range(worker, workflow, instance)):
        entries += chain.follow(value)
    chain.require(seq)
    return Loaded(entries, chain.tail)


def write(batch: Batch, address: ActorAddress, entries: Sequence[Entry]) -> None:
    """Put a whole journal, in blocks that are not so large that one entry of them is dear to read."""
    digest = FIRST_DIGEST
    block: list[Entry] = []
    size = 0
    for entry in entries:
        entry_size = len(_ENCODE(entry))
        if block and (size + entry_size > _PART_BYTES):
            digest = _put(batch, address, block, digest)
            block, size = [], 0
        block.append(entry)
        size += entry_size
    if block:
        _put(batch, address, block, digest)


def _put(batch: Batch, address: ActorAddress, block: Sequence[Entry], previous: bytes) -> bytes:
    stored, digest = encode(block, previous)
    batch.put(Table.JOURNAL, key(address.worker, address.namespace, address.id, block[0].seq), stored)
    return digest
