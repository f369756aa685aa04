"""Records: what is written reads back, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest

from edge_runtime.errors import StoreCorrupt
from edge_runtime.store import values
from edge_runtime.store.records import RecordCodec


class Point(msgspec.Struct, array_like=True):
    x: int
    y: int


class Point3(msgspec.Struct, array_like=True):
    x: int
    y: int
    z: int = 7


def test_record_reads_back_also_with_fields_added_at_its_end() -> None:
    stored = RecordCodec[Point](Point).encode(Point(1, 2))
    assert RecordCodec[Point](Point).decode(stored) == Point(1, 2)
    assert RecordCodec[Point3](Point3).decode(stored) == Point3(1, 2, 7)


def test_bytes_that_are_no_record_are_refused() -> None:
    codec = RecordCodec[Point](Point)
    stored = codec.encode(Point(1, 2))
    for bad in (b"", stored[:-1], stored + b"x", values.encode([1, 2]), RecordCodec[str](str).encode("x")):
        with pytest.raises(StoreCorrupt):
            codec.decode(bad)
    for at in range(len(stored)):
        with pytest.raises(StoreCorrupt):
            codec.decode(stored[:at] + bytes((stored[at] ^ 1,)) + stored[at + 1 :])
