"""What operations mean, for every implementation of the store: bounds of keys, and the merging of counters."""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.errors import LimitExceeded, StoreCorrupt, StoreError
from edge_runtime.limits import STORE_KEY_MAX, STORE_VALUE_MAX
from edge_runtime.store import values


def check_key(key: bytes) -> None:
    """Raises LimitExceeded for a key that is empty or longer than STORE_KEY_MAX."""
    if not 1 <= len(key) <= STORE_KEY_MAX:
        raise LimitExceeded("store key, at least 1 byte", len(key), STORE_KEY_MAX, "bytes")


def check_entry(key: bytes, value: bytes) -> None:
    """As `check_key`, for a value too."""
    check_key(key)
    if len(value) > STORE_VALUE_MAX:
        raise LimitExceeded("stored value", len(value), STORE_VALUE_MAX, "bytes")


def check_copy(prefix: bytes, to: bytes) -> None:
    """Raises StoreError for a copy into itself."""
    if prefix.startswith(to) or to.startswith(prefix):
        raise StoreError(f"entries under {prefix!r} cannot be copied to {to!r}: one begins with the other")


def end_of_prefix(prefix: bytes) -> bytes | None:
    """The end of the keys that begin with `prefix`; None: that of the table."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def add_counters(stored: bytes | None, added: Mapping[str, int]) -> bytes:
    """The value of a key after AddCounters. Raises StoreCorrupt when what is stored are not counters."""
    counters = {} if stored is None else decode_counters(stored)
    for name, amount in added.items():
        counters[name] = counters.get(name, 0) + amount
    return values.encode(counters)


def decode_counters(stored: bytes) -> dict[str, int]:
    """The counters under a key that AddCounters wrote."""
    counters = values.decode(stored)
    if not isinstance(counters, dict) or not all(type(amount) is int for amount in counters.values()):
        raise StoreCorrupt(f"counters are stored as {type(counters).__name__}")
    return counters
