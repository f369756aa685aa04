"""How KV entries are stored: keys and records of Table.KV. Pure.

Three kinds of key, told apart by the type of their first part (see store.keys):

    (namespace, key)             the entry's record; one range scan lists a namespace in the order of its keys
    (b"", namespace, key)        the value, where it is too large to lie in the record, so that listing never reads it
    (expires_s, namespace, key)  nothing; the index of what expires when

A record is a byte of flags, then, where flagged, the expiration (eight bytes, seconds since the epoch), the metadata
(two bytes of length, JSON), and last the value, unless that lies apart.

Invariants, kept by every batch made here whatever it is interleaved with: a record that expires has its index entry;
a record whose value lies apart has it in the same commit. An index entry may be left over; the sweep removes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.errors import StoreCorrupt
from edge_runtime.limits import KV_INLINE_MAX
from edge_runtime.store import keys
from edge_runtime.store.api import Batch, Snapshot, Table

_EXPIRES: Final = 1
_METADATA: Final = 2
_APART: Final = 4

PLAIN: Final = 0
"""The first byte of a record that is the value and nothing else; the quick path of reads."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as read. `value` is None while it lies apart and has not been read."""

    expires_s: int | None
    metadata: bytes | None
    """JSON, UTF-8."""
    value: bytes | None

    def expired(self, now_ms: int) -> bool:
        return self.expires_s is not None and self.expires_s * 1000 <= now_ms


def entry_key(namespace: str, key: str) -> bytes:
    return keys.encode(namespace, key)


def key_prefix(namespace: str) -> bytes:
    """What `entry_key` of every key in the namespace begins with; `key_tail` is the rest."""
    return keys.encode(namespace, "")[:-1]


def key_tail(key: str) -> bytes:
    """Raises UnicodeEncodeError for lone surrogates."""
    raw = key.encode()
    return (raw.replace(b"\0", b"\0\xff") if b"\0" in raw else raw) + b"\0"


def key_of_tail(tail: bytes) -> str:
    return tail[:-1].replace(b"\0\xff", b"\0").decode()


def value_key(namespace: str, key: str) -> bytes:
    return keys.encode(b"", namespace, key)


def expiry_key(expires_s: int, namespace: str, key: str) -> bytes:
    return keys.encode(expires_s, namespace, key)


def expired_range(now_ms: int) -> tuple[bytes, bytes]:
    """The index entries of everything that has expired."""
    return keys.encode(0), keys.encode(now_ms // 1000 + 1)


def scheduled_range(now_ms: int) -> tuple[bytes, bytes]:
    """The index entries of everything that expires later, soonest first."""
    return keys.encode(now_ms // 1000 + 1), keys.encode(2**63 - 1)


def decode_expiry_key(key: bytes) -> tuple[int, str, str]:
    match keys.decode(key):
        case (int(expires_s), str(namespace), str(name)):
            return expires_s, namespace, name
    raise StoreCorrupt(f"key {key!r} of the KV table is no index entry")


def encode_record(expires_s: int | None, metadata: bytes | None, value: bytes) -> tuple[bytes, bool]:
    """The record, and whether the value must be stored apart from it."""
    flags = PLAIN
    head = b""
    if expires_s is not None:
        flags |= _EXPIRES
        head += expires_s.to_bytes(8, "big")
    if metadata is not None:
        flags |= _METADATA
        head += len(metadata).to_bytes(2, "big") + metadata
    if len(value) > KV_INLINE_MAX:
        return bytes((flags | _APART,)) + head, True
    return bytes((flags,)) + head + value, False


def decode_record(record: bytes) -> Entry:
    """Raises StoreCorrupt for bytes that `encode_record` cannot have made."""
    flags = record[0] if record else 0xFF
    if flags & ~(_EXPIRES | _METADATA | _APART):
        raise StoreCorrupt(f"a KV record begins with {record[:1]!r}, which this version does not know")
    at = 1
    expires_s = metadata = None
    if flags & _EXPIRES:
        expires_s = int.from_bytes(record[at : at + 8], "big")
        at += 8
    if flags & _METADATA:
        length = int.from_bytes(record[at : at + 2], "big")
        metadata = record[at + 2 : at + 2 + length]
        at += 2 + length
    if at > len(record) or (flags & _APART and at != len(record)):
        raise StoreCorrupt(f"a KV record of {len(record)} bytes does not hold what its flags {flags} say")
    return Entry(expires_s, metadata, None if flags & _APART else record[at:])


def read_entry(snapshot: Snapshot, namespace: str, key: str, now_ms: int) -> tuple[Entry, bytes] | None:
    """A live entry and its value."""
    record = snapshot.get(Table.KV, entry_key(namespace, key))
    if record is None:
        return None
    entry = decode_record(record)
    if entry.expired(now_ms):
        return None
    value = entry.value
    if value is None:
        value = snapshot.get(Table.KV, value_key(namespace, key))
        if value is None:
            raise StoreCorrupt(f"the value of KV key {key!r} in namespace {namespace!r} is missing")
    return entry, value


def put_entry(
    batch: Batch,
    namespace: str,
    key: str,
    value: bytes,
    expires_s: int | None,
    metadata: bytes | None,
    old: bytes | None,
) -> None:
    """Write an entry. `old` is the record last seen under the key, as a hint of which index entry is obsolete."""
    record, apart = encode_record(expires_s, metadata, value)
    _drop_index(batch, namespace, key, old)
    batch.put(Table.KV, entry_key(namespace, key), record)
    if apart:
        batch.put(Table.KV, value_key(namespace, key), value)
    else:
        # A batch queued before this one may have put a large value, so what `old` says is not enough.
        batch.delete(Table.KV, value_key(namespace, key))
    if expires_s is not None:
        batch.put(Table.KV, expiry_key(expires_s, namespace, key), b"")


def delete_entry(batch: Batch, namespace: str, key: str, old: bytes | None = None) -> None:
    """Delete an entry, if it exists. `old` as in `put_entry`."""
    _drop_index(batch, namespace, key, old)
    batch.delete(Table.KV, entry_key(namespace, key))
    batch.delete(Table.KV, value_key(namespace, key))


def _drop_index(batch: Batch, namespace: str, key: str, old: bytes | None) -> None:
    if old is not None and old[0] & _EXPIRES:
        expires_s = decode_record(old).expires_s
        assert expires_s is not None
        batch.delete(Table.KV, expiry_key(expires_s, namespace, key))
